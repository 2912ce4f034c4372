use proptest::prelude::*;

use super::*;

fn file(date: i32, name: &str, rows: u64) -> DataFile {
    DataFile {
        path: format!("fleet/{name}.parquet"),
        size: rows * 20,
        dates: date..=date,
        rows: Some(rows),
        tenants: None,
        devices: None,
        times_us: None,
    }
}

fn commits(date: i32, rows: impl IntoIterator<Item = u64>) -> Vec<DataFile> {
    rows.into_iter().enumerate().map(|(n, rows)| file(date, &format!("000001-{n:06}-{date}"), rows)).collect()
}

fn sizes(jobs: &[Job]) -> Vec<Vec<u64>> {
    jobs.iter().map(|job| job.runs.iter().map(|run| rows(run)).collect()).collect()
}

/// The third date of a span of eight.
const TODAY: Wanted = Wanted::Worthwhile { today: 66 };

#[test]
fn date_that_grows_is_left_until_it_has_some_runs_of_like_size() {
    assert_eq!(plan(&commits(66, [5; 7]), TODAY), []);
    assert_eq!(sizes(&plan(&commits(66, [5; 8]), TODAY)), [[5; 8]]);
    // The large one is not written again for so few rows.
    assert_eq!(sizes(&plan(&commits(66, [90, 5, 5, 5, 5, 5, 5, 5, 5]), TODAY)), [[5; 8]]);
    // A small one does not keep the others apart.
    assert_eq!(sizes(&plan(&commits(66, [1, 90, 90, 90, 90, 90, 90, 90]), TODAY))[0].len(), 8);
}

#[test]
fn date_that_is_over_becomes_one_run_unless_little_has_come_late() {
    assert_eq!(sizes(&plan(&commits(65, [5, 60, 7]), TODAY)), [[5, 7, 60]]);
    assert_eq!(plan(&commits(65, [1, 1_000]), TODAY), []);
    assert_eq!(sizes(&plan(&commits(65, [1, 1_000]), Wanted::OneRun)), [[1, 1_000]]);
    assert_eq!(plan(&commits(65, [1_000]), Wanted::OneRun), []);
}

#[test]
fn files_that_one_compaction_wrote_are_one_run() {
    let parts = [file(65, "run-a-00001", 50), file(65, "run-a-00000", 50), file(65, "run-b-00000", 40)];
    let jobs = plan(&parts, Wanted::OneRun);
    let names: Vec<Vec<&str>> =
        jobs[0].runs.iter().map(|run| run.iter().map(|file| &file.path[6..17]).collect()).collect();
    assert_eq!(names, [vec!["run-b-00000"], vec!["run-a-00000", "run-a-00001"]]);
    assert_eq!(plan(&parts[..2], Wanted::OneRun), [], "one run needs no compaction");
}

#[test]
fn newest_date_comes_first_and_dates_of_one_that_is_not_over_are_not_mixed() {
    let files = [commits(64, [5; 3]), commits(65, [5; 3])].concat();
    let dates: Vec<_> = plan(&files, TODAY).into_iter().map(|job| job.dates).collect();
    assert_eq!(dates, [65..=65, 64..=64]);
}

#[test]
fn dates_that_are_over_become_one_run_of_eight_and_then_of_sixty_four() {
    let dates = |days: RangeInclusive<i32>| {
        days.map(|date| file(date, &format!("run-{date}-0"), 5)).collect::<Vec<_>>()
    };
    let planned = |files: &[DataFile], today| {
        let jobs = plan(files, Wanted::Worthwhile { today });
        jobs.into_iter().map(|job| job.dates).collect::<Vec<_>>()
    };
    assert_eq!(planned(&dates(64..=71), 71), []);
    assert_eq!(planned(&dates(64..=71), 72), [64..=71]);
    // Of a longer span at once, as many as are merged at once.
    assert_eq!(planned(&dates(64..=127), 128), [64..=79]);
    // Dates of two spans are not mixed, and a span that would be a giant stays in parts.
    assert_eq!(planned(&dates(70..=73), 80), [72..=73, 70..=71]);
    let large = |date| file(date, &format!("run-{date}-0"), SPAN_ROWS_MAX / 10);
    assert_eq!(planned(&(64..=127).map(large).collect::<Vec<_>>(), 128).len(), 8);
    let giants = |date| file(date, &format!("run-{date}-0"), SPAN_ROWS_MAX);
    assert_eq!(planned(&(64..=127).map(giants).collect::<Vec<_>>(), 128), []);
    assert_eq!(plan(&(64..=127).map(giants).collect::<Vec<_>>(), Wanted::OneRun), []);
}

#[test]
fn file_of_unknown_dates_is_left_alone() {
    let unknown = |name: &str| DataFile { dates: i32::MIN..=i32::MAX, ..file(64, name, 5) };
    assert_eq!(plan(&[unknown("a"), unknown("b")], Wanted::OneRun), []);
}

/// Compacts as long as anything is worth it; answers how many rows were written.
fn compact_all(files: &mut Vec<DataFile>, today: i32, number: &mut usize) -> u64 {
    let mut written = 0;
    while let Some(job) = plan(files, Wanted::Worthwhile { today }).pop() {
        assert!(job.runs.len() <= FAN_IN_MAX);
        written += job.rows();
        files.retain(|file| !job.runs.iter().flatten().any(|taken| taken.path == file.path));
        *number += 1;
        files.push(file_of(&job, *number));
    }
    written
}

#[test]
fn year_of_commits_lies_in_few_runs_and_is_written_seldom() {
    let (mut files, mut written, mut number) = (Vec::new(), 0, 0);
    for date in 0..365 {
        for commit in 0..24 {
            files.push(file(date, &format!("000001-{commit:06}-{date}"), 100));
            // Something of the week before comes late.
            let late = (date - commit % 7).max(0);
            files.push(file(late, &format!("000002-{commit:06}-{date}-{late}"), 1));
            written += compact_all(&mut files, date, &mut number);
        }
    }
    let all: u64 = files.iter().filter_map(|file| file.rows).sum();
    assert_eq!(all, 365 * 24 * 101);
    assert!(files.len() < 60, "{} runs", files.len());
    assert!(written < all * 8, "each row was written {} times", written as f64 / all as f64);
}

proptest! {
    /// Commits of any sizes, compacted after each: runs stay few, and rows are not written too often.
    #[test]
    fn runs_stay_few_and_rows_are_written_seldom(commits in prop::collection::vec(1..2_000_u64, 1..600)) {
        let (mut files, mut written, mut number) = (Vec::new(), 0, 0);
        let all: u64 = commits.iter().sum();
        for (n, rows) in commits.iter().enumerate() {
            files.push(file(66, &format!("000001-{n:06}"), *rows));
            written += compact_all(&mut files, 66, &mut number);
        }
        let often = (commits.len() as f64).log2().max(1.0);
        prop_assert!(written as f64 <= all as f64 * (often + 1.0), "{written} of {all}");
        prop_assert!(files.len() <= RUNS_MAX + often as usize + 1, "{} runs", files.len());
    }
}

fn file_of(job: &Job, n: usize) -> DataFile {
    DataFile { dates: job.dates.clone(), ..file(0, &format!("run-{n}-00000"), job.rows()) }
}
