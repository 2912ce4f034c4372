use proptest::prelude::*;

use super::*;

fn file(date: i32, name: &str, rows: u64) -> DataFile {
    DataFile {
        path: format!("fleet/date={date}/{name}.parquet"),
        size: rows * 20,
        date,
        rows: Some(rows),
        tenants: None,
        devices: None,
        times_us: None,
    }
}

fn commits(date: i32, rows: impl IntoIterator<Item = u64>) -> Vec<DataFile> {
    rows.into_iter().enumerate().map(|(n, rows)| file(date, &format!("000001-{n:06}"), rows)).collect()
}

fn sizes(jobs: &[Job]) -> Vec<Vec<u64>> {
    jobs.iter().map(|job| job.runs.iter().map(|run| rows(run)).collect()).collect()
}

const TODAY: Wanted = Wanted::Worthwhile { today: 10 };

#[test]
fn date_that_grows_is_left_until_it_has_some_runs_of_like_size() {
    assert_eq!(plan(&commits(10, [5; 7]), TODAY), []);
    assert_eq!(sizes(&plan(&commits(10, [5; 8]), TODAY)), [[5; 8]]);
    // The large one is not written again for so few rows.
    assert_eq!(sizes(&plan(&commits(10, [90, 5, 5, 5, 5, 5, 5, 5, 5]), TODAY)), [[5; 8]]);
    // A small one does not keep the others apart.
    assert_eq!(sizes(&plan(&commits(10, [1, 90, 90, 90, 90, 90, 90, 90]), TODAY))[0].len(), 8);
}

#[test]
fn date_that_is_over_becomes_one_run_unless_little_has_come_late() {
    assert_eq!(sizes(&plan(&commits(9, [5, 60, 7]), TODAY)), [[5, 7, 60]]);
    assert_eq!(plan(&commits(9, [1, 1_000]), TODAY), []);
    assert_eq!(sizes(&plan(&commits(9, [1, 1_000]), Wanted::OneRun)), [[1, 1_000]]);
    assert_eq!(plan(&commits(9, [1_000]), Wanted::OneRun), []);
}

#[test]
fn files_that_one_compaction_wrote_are_one_run() {
    let parts = [file(9, "run-a-00001", 50), file(9, "run-a-00000", 50), file(9, "run-b-00000", 40)];
    let jobs = plan(&parts, Wanted::OneRun);
    let names: Vec<Vec<&str>> =
        jobs[0].runs.iter().map(|run| run.iter().map(|file| &file.path[13..24]).collect()).collect();
    assert_eq!(names, [vec!["run-b-00000"], vec!["run-a-00000", "run-a-00001"]]);
    assert_eq!(plan(&parts[..2], Wanted::OneRun), [], "one run needs no compaction");
}

#[test]
fn newest_date_comes_first_and_no_date_is_mixed_with_another() {
    let files = [commits(7, [5; 3]), commits(9, [5; 3])].concat();
    let dates: Vec<i32> = plan(&files, TODAY).iter().map(|job| job.date).collect();
    assert_eq!(dates, [9, 7]);
}

proptest! {
    /// Commits of any sizes, compacted after each: runs stay few, and rows are not written too often.
    #[test]
    fn runs_stay_few_and_rows_are_written_seldom(commits in prop::collection::vec(1..2_000_u64, 1..600)) {
        let (mut files, mut written) = (Vec::new(), 0);
        let all: u64 = commits.iter().sum();
        for (n, rows) in commits.iter().enumerate() {
            files.push(file(10, &format!("000001-{n:06}"), *rows));
            while let Some(job) = plan(&files, TODAY).pop() {
                prop_assert!(job.runs.len() <= FAN_IN_MAX);
                written += job.rows();
                files.retain(|file| !job.runs.iter().flatten().any(|taken| taken.path == file.path));
                files.push(file_of(&job, n));
            }
        }
        let often = (commits.len() as f64).log2().max(1.0);
        prop_assert!(written as f64 <= all as f64 * (often + 1.0), "{written} of {all}");
        prop_assert!(files.len() <= RUNS_MAX + often as usize + 1, "{} runs", files.len());
    }
}

fn file_of(job: &Job, n: usize) -> DataFile {
    file(job.date, &format!("run-{n}-00000"), job.rows())
}
