//! Which files are worth merging. Pure: decided by what the log says of them.
//!
//! A **run** is a file, or several that one compaction wrote one after the other, whose rows are sorted from
//! the first to the last. A question about one device looks into every run of its dates, so runs should be
//! few; each row that is merged is written once more, so merges should be few, too. As in the tiered
//! compaction of log-structured merge trees, a run is merged with smaller ones only once these have as many
//! rows together: a row of a day with `n` commits is written about `log2(n / 8)` times.

use std::collections::BTreeMap;

use super::run_of;
use crate::snapshot::DataFile;

/// Runs that a date may have while it still grows, before some are merged.
const RUNS_MAX: usize = 8;

/// Runs that are merged at once: each holds a compressed row group, of some 5 MB, and a batch of decoded
/// rows, of some 2 MB, so 16 of them take about 110 MB.
const FAN_IN_MAX: usize = 16;

/// A run of a date that is over has at most this many times the rows of the smaller ones it is merged with.
const ENDED_PART: u64 = 8;

/// What a compaction is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// What is worth its price; dates before this one (days since 1970) hardly grow any more.
    Worthwhile {
        /// The date of today.
        today: i32,
    },
    /// One run for each date, whatever it costs.
    OneRun,
}

/// Runs of one date that become one.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The date, in days since 1970.
    pub date: i32,
    /// The runs; the files of each in the order of their rows.
    pub runs: Vec<Vec<DataFile>>,
}

impl Job {
    /// How many files it reads.
    pub fn files(&self) -> usize {
        self.runs.iter().map(Vec::len).sum()
    }

    /// How many rows it writes, as far as the log says.
    pub fn rows(&self) -> u64 {
        self.runs.iter().map(|run| rows(run)).sum()
    }
}

/// At most one job for each date, newest first; done one after the other, they may call for more.
pub fn plan(files: &[DataFile], wanted: Wanted) -> Vec<Job> {
    let mut dates: BTreeMap<i32, BTreeMap<&str, Vec<DataFile>>> = BTreeMap::new();
    for file in files {
        dates.entry(file.date).or_default().entry(run_of(&file.path)).or_default().push(file.clone());
    }
    let jobs = dates.into_iter().rev().filter_map(|(date, runs)| {
        let runs = merged(date, runs.into_values().collect(), wanted)?;
        Some(Job { date, runs })
    });
    jobs.collect()
}

/// Those runs of a date that are merged, smallest first.
fn merged(date: i32, mut runs: Vec<Vec<DataFile>>, wanted: Wanted) -> Option<Vec<Vec<DataFile>>> {
    for run in &mut runs {
        run.sort_by(|one, other| one.path.cmp(&other.path));
    }
    runs.sort_by_key(|run| rows(run));
    let (least, part) = match wanted {
        Wanted::OneRun => (2, u64::MAX),
        Wanted::Worthwhile { today } if date < today => (2, ENDED_PART),
        Wanted::Worthwhile { .. } => (RUNS_MAX, 1),
    };
    // As many as can be: the largest has at most `part` times the rows that the others have together.
    let fits = |count: &usize| {
        let smaller: u64 = runs[..count - 1].iter().map(|run| rows(run)).sum();
        rows(&runs[count - 1]) <= smaller.saturating_mul(part)
    };
    let count = (least..=runs.len().min(FAN_IN_MAX)).rev().find(fits)?;
    runs.truncate(count);
    Some(runs)
}

/// A file of which the log does not say how many rows it has counts as one.
fn rows(run: &[DataFile]) -> u64 {
    run.iter().map(|file| file.rows.unwrap_or(1)).sum()
}

#[cfg(test)]
mod tests;
