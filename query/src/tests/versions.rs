//! Tables as they were.

use arrow::{array::AsArray, datatypes::Int64Type};
use zeugma_lake::{
    compact::{Compaction, FILE_ROWS_MAX, Wanted, plan},
    upkeep::KEEP_DEFAULT,
};

use super::*;
use crate::ErrorKind;

/// Three commits: 5, then 8, then 10 rows; the tail has one more.
async fn grown() -> City {
    let city = City::new().await;
    for (through, minutes) in [(1, 0..5), (2, 5..8), (3, 8..10)] {
        city.commit("parking", vec![parking("lamia", "p1", minutes)], through).await;
    }
    city.tail_holds(3, vec![(parking("lamia", "p1", 10..11), vec![4])]);
    city
}

async fn fails(query: &Query, rows: Rows, sql: &str) -> Error {
    match query.ask(&Grant::All, rows, sql).await {
        Err(error) => error,
        Ok(_) => panic!("{sql} has an answer"),
    }
}

#[tokio::test]
async fn table_at_answers_what_a_version_held() {
    let city = grown().await;
    let query = city.query();
    let newest = city.lake.table("parking").load().await.unwrap().version();
    for (back, rows) in [(0, 10), (1, 8), (2, 5)] {
        let version = newest - back;
        let sql = format!("SELECT count(*) FROM table_at('parking', {version})");
        assert_eq!(number(&query, &Grant::All, &sql).await, rows, "{sql}");
        let answer = query.ask(&Grant::All, Rows::Version(version), "SELECT count(*) FROM parking").await;
        let counted = answer.unwrap().collect().await.unwrap();
        assert_eq!(counted[0].column(0).as_primitive::<Int64Type>().value(0), rows, "{version}");
    }
    let grown = format!(
        "SELECT count(*) FROM parking p LEFT ANTI JOIN table_at('parking', {}) was ON p.time = was.time",
        newest - 2
    );
    assert_eq!(number(&query, &Grant::All, &grown).await, 6);
    let shown =
        text(&query, &Grant::All, &format!("SELECT * FROM table_at('parking', {newest}) LIMIT 1")).await;
    assert!(shown.contains("occupied_spaces") && !shown.contains("date"), "{shown}");
    // Beside other relations, with a name and without one.
    for beside in ["table_at('parking', 2)", "table_at('parking', 2) was", "generate_series(1, 2)"] {
        let shown = text(&query, &Grant::All, &format!("SELECT * FROM parking, {beside} LIMIT 1")).await;
        assert!(shown.contains("occupied_spaces"), "{beside}:\n{shown}");
    }
}

#[tokio::test]
async fn version_that_never_was_or_a_table_that_is_none_is_refused_in_a_sentence() {
    let city = grown().await;
    let query = city.query();
    let newest = city.lake.table("parking").load().await.unwrap().version();
    for (rows, sql, kind, says) in [
        (Rows::Lake, "SELECT * FROM table_at('parking', 99)", ErrorKind::NotFound, "no version 99"),
        (
            Rows::Lake,
            "SELECT * FROM table_at('nonsense', 1)",
            ErrorKind::Invalid,
            "there is no table `nonsense`",
        ),
        (Rows::Lake, "SELECT * FROM table_at('parking')", ErrorKind::Invalid, "table_at('fleet', 17)"),
        (Rows::Lake, "SELECT * FROM table_at('parking', -1)", ErrorKind::Invalid, "table_at('fleet', 17)"),
        (Rows::Version(99), "SELECT * FROM parking", ErrorKind::NotFound, &format!("its newest is {newest}")),
        (Rows::Version(1), "SELECT * FROM parking, fleet", ErrorKind::Invalid, "about one table"),
        (Rows::Version(1), "SELECT 1", ErrorKind::Invalid, "about one table"),
    ] {
        let error = fails(&query, rows, sql).await;
        assert_eq!(error.kind(), kind, "{sql}: {error}");
        assert!(error.to_string().contains(says), "{sql}: {error}");
    }
}

#[tokio::test]
async fn version_whose_files_a_vacuum_has_deleted_is_gone() {
    let city = grown().await;
    let query = city.query();
    let table = city.lake.table("parking");
    let before = table.load().await.unwrap();
    let compaction = Compaction {
        table: table.clone(),
        columns: parking("lamia", "p1", 0..1).schema(),
        lease: city.lease.clone(),
        file_rows_max: FILE_ROWS_MAX,
        number: 0,
    };
    let now_ms = chrono::Utc::now().timestamp_millis();
    let after =
        compaction.run(&plan(before.files(), Wanted::OneRun)[0], || now_ms, drop).await.unwrap().snapshot;
    let at = |version: u64| format!("SELECT count(*) FROM table_at('parking', {version})");
    assert_eq!(number(&query, &Grant::All, &at(before.version())).await, 10);
    let later_ms = now_ms + 2 * KEEP_DEFAULT.as_millis() as i64;
    assert_eq!(table.vacuum(&city.lease, KEEP_DEFAULT, later_ms).await.unwrap(), 3);
    let error = fails(&query, Rows::Lake, &at(before.version())).await;
    assert_eq!(error.kind(), ErrorKind::Gone, "{error}");
    assert!(error.to_string().contains("--keep-versions"), "{error}");
    assert_eq!(number(&query, &Grant::All, &at(after.version())).await, 10);
}
