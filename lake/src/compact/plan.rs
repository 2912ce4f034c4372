//! Which files are worth merging. Pure: decided by what the log says of them.
//!
//! A **run** is a file, or several that one compaction wrote one after the other, whose rows are sorted from
//! the first to the last. A question about one device looks into every run that has rows of its dates, so runs
//! should be few; each row that is merged is written once more, so merges should be few, too.
//!
//! While a date grows, its runs are merged as in the tiered compaction of log-structured merge trees: a run with
//! smaller ones only once these have as many rows together, so a row of a day with `n` commits is written about
//! `log2(n / 8)` times. What is over is merged with its neighbours, first eight dates, then eight times eight, as
//! long as that makes no giants: two more writes of each row, and a year of one tenant lies in some twenty runs.

use std::{cmp::Reverse, collections::BTreeMap, ops::RangeInclusive};

use super::{FILE_ROWS_MAX, run_of};
use crate::snapshot::DataFile;

/// Runs that a date may have while it still grows, before some are merged.
const RUNS_MAX: usize = 8;

/// Runs that are merged at once: each holds a compressed row group, of some 5 MB, and a batch of decoded
/// rows, of some 2 MB, so 16 of them take about 110 MB.
const FAN_IN_MAX: usize = 16;

/// A run of dates that are over has at most this many times the rows of the smaller ones it is merged with.
const ENDED_PART: u64 = 8;

/// Dates of a span, the longest first; a span begins at a multiple of its length, counted from 1970.
const SPANS: [i32; 3] = [64, 8, 1];

/// Rows of a span of several dates: 32 files, written in some two minutes. Where a span has more, each of its
/// dates has so many rows of a tenant that longer runs would not be read faster.
const SPAN_ROWS_MAX: u64 = 32 * FILE_ROWS_MAX as u64;

/// What a compaction is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// What is worth its price; dates before this one (days since 1970) hardly grow any more.
    Worthwhile {
        /// The date of today.
        today: i32,
    },
    /// One run for each span of dates, whatever it costs.
    OneRun,
}

/// Runs that become one.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// First and last date of their rows, in days since 1970.
    pub dates: RangeInclusive<i32>,
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

/// At most one job for each span, newest first; done one after the other, they may call for more.
pub fn plan(files: &[DataFile], wanted: Wanted) -> Vec<Job> {
    let mut runs = runs(files);
    let mut jobs = Vec::new();
    for length in SPANS {
        let mut spans: BTreeMap<i32, Vec<Vec<DataFile>>> = BTreeMap::new();
        for run in std::mem::take(&mut runs) {
            // Dates too far apart for this span are so for any shorter one.
            if let Some(span) = span_of(&dates(&run), length) {
                spans.entry(span).or_default().push(run);
            }
        }
        for (span, candidates) in spans {
            match merged(span, length, &candidates, wanted) {
                Some(merged) => jobs.push(Job { dates: all_dates(&merged), runs: merged }),
                None => runs.extend(candidates),
            }
        }
    }
    jobs.sort_by_key(|job| Reverse(*job.dates.end()));
    jobs
}

/// The runs that files make, each with its files in order.
fn runs(files: &[DataFile]) -> Vec<Vec<DataFile>> {
    let mut runs: BTreeMap<&str, Vec<DataFile>> = BTreeMap::new();
    for file in files {
        runs.entry(run_of(&file.path)).or_default().push(file.clone());
    }
    runs.values_mut().for_each(|run| run.sort_by(|one, other| one.path.cmp(&other.path)));
    runs.into_values().collect()
}

fn dates(run: &[DataFile]) -> RangeInclusive<i32> {
    let first = run.iter().map(|file| *file.dates.start()).min();
    let last = run.iter().map(|file| *file.dates.end()).max();
    first.unwrap_or(i32::MIN)..=last.unwrap_or(i32::MAX)
}

fn all_dates(runs: &[Vec<DataFile>]) -> RangeInclusive<i32> {
    dates(&runs.concat())
}

/// The number of the span of this length that all of these dates lie in.
fn span_of(dates: &RangeInclusive<i32>, length: i32) -> Option<i32> {
    let span = |date: &i32| date.div_euclid(length);
    (span(dates.start()) == span(dates.end())).then(|| span(dates.start()))
}

/// Those runs of a span that are merged, smallest first.
fn merged(
    span: i32,
    length: i32,
    candidates: &[Vec<DataFile>],
    wanted: Wanted,
) -> Option<Vec<Vec<DataFile>>> {
    let all: u64 = candidates.iter().map(|run| rows(run)).sum();
    if length > 1 && all > SPAN_ROWS_MAX {
        return None;
    }
    let (least, part) = match wanted {
        Wanted::OneRun => (2, u64::MAX),
        Wanted::Worthwhile { today } if (span + 1) * length <= today => (2, ENDED_PART),
        Wanted::Worthwhile { .. } if length == 1 => (RUNS_MAX, 1),
        Wanted::Worthwhile { .. } => return None,
    };
    let mut runs: Vec<&Vec<DataFile>> = candidates.iter().collect();
    runs.sort_by_key(|run| (rows(run), *dates(run).start()));
    // As many as can be: the largest has at most `part` times the rows that the others have together.
    let fits = |count: &usize| {
        let smaller: u64 = runs[..count - 1].iter().map(|run| rows(run)).sum();
        rows(runs[count - 1]) <= smaller.saturating_mul(part)
    };
    let count = (least..=runs.len().min(FAN_IN_MAX)).rev().find(fits)?;
    Some(runs.into_iter().take(count).cloned().collect())
}

/// A file of which the log does not say how many rows it has counts as one.
fn rows(run: &[DataFile]) -> u64 {
    run.iter().map(|file| file.rows.unwrap_or(1)).sum()
}

#[cfg(test)]
mod tests;
