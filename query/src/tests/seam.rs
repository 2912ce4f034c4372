//! Rows of snapshot and tail, each once.

use super::*;
use crate::catalog::REFRESH_AT_MOST;

#[tokio::test]
async fn each_reading_is_answered_once_from_lake_and_tail() {
    let city = City::new().await;
    city.commit("parking", vec![parking("lamia", "p1", 0..10)], 10).await;
    // The tail still has what is committed through 10, and five more beyond.
    let positions = (1..=15).collect();
    city.tail_holds(0, vec![(parking("lamia", "p1", 0..15), positions)]);
    let query = city.query();
    assert_eq!(number(&query, &Grant::All, "SELECT count(*) FROM parking").await, 15);
    assert_eq!(
        number(&query, &Grant::All, "SELECT sum(occupied_spaces) FROM parking").await,
        (0..15).sum::<i64>()
    );
    let lake = query.ask(&Grant::All, crate::Rows::Lake, "SELECT * FROM parking").await.unwrap();
    let lake: usize = lake.collect().await.unwrap().iter().map(RecordBatch::num_rows).sum();
    assert_eq!(lake, 10);
}

#[tokio::test]
async fn table_that_nobody_has_committed_to_is_answered_from_the_tail() {
    let city = City::new().await;
    city.tail_holds(0, vec![(parking("lamia", "p1", 0..3), vec![1, 2, 3])]);
    let query = city.query();
    assert_eq!(number(&query, &Grant::All, "SELECT count(*) FROM parking").await, 3);
    assert_eq!(number(&query, &Grant::All, "SELECT count(*) FROM fleet").await, 0);
}

#[tokio::test]
async fn snapshot_is_loaded_again_where_the_tail_has_released_more() {
    let city = City::new().await;
    city.commit("parking", vec![parking("lamia", "p1", 0..4)], 4).await;
    let query = city.query();
    assert_eq!(number(&query, &Grant::All, "SELECT count(*) FROM parking").await, 4);
    // Another process commits and releases; the known snapshot is too old for this tail.
    city.commit("parking", vec![parking("lamia", "p1", 4..6)], 6).await;
    city.tail_holds(6, vec![(parking("lamia", "p1", 6..7), vec![7])]);
    assert_eq!(number(&query, &Grant::All, "SELECT count(*) FROM parking").await, 7);
}

#[tokio::test]
async fn tail_that_never_meets_the_lake_is_unavailable() {
    let city = City::new().await;
    city.tail_holds(9, Vec::new());
    let error = refused(&city.query(), &Grant::All, "SELECT * FROM parking").await;
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn filters_on_time_device_and_date_answer_the_same_over_many_files() {
    let city = City::new().await;
    for (commit, device) in ["p1", "p2", "p3"].into_iter().enumerate() {
        city.commit("parking", vec![parking("lamia", device, 0..3_000)], commit as u64 + 1).await;
    }
    let query = city.query();
    let count = async |filter: &str| {
        number(&query, &Grant::All, &format!("SELECT count(*) FROM parking WHERE {filter}")).await
    };
    assert_eq!(count("true").await, 9_000);
    assert_eq!(count("device = 'p2'").await, 3_000);
    assert_eq!(count("time > '2026-09-21T14:03:20Z'").await, 30);
    assert_eq!(count("time > '2026-09-21T14:03:20Z' AND device IN ('p1', 'p9')").await, 10);
    assert_eq!(count("date = '2026-09-21'").await, 3 * (14 * 60 + 14));
    assert_eq!(count("date < '2026-09-21' AND occupied_spaces = 2999").await, 3);
    assert_eq!(count("tenant = 'volos'").await, 0);
}

#[tokio::test]
async fn now_is_the_moment_of_the_question() {
    let city = City::new().await;
    city.commit("parking", vec![parking("lamia", "p1", 0..10)], 1).await;
    city.tail_holds(1, vec![(parking("lamia", "p2", 0..5), (2..7).collect())]);
    let query = city.query();
    for (sql, rows) in [
        ("SELECT count(*) FROM parking WHERE time > now() - INTERVAL '100 years'", 15),
        ("SELECT count(*) FROM parking WHERE time > now()", 0),
        ("SELECT count(DISTINCT now()) FROM parking", 1),
        ("SELECT count(*) FROM parking_latest WHERE time < now()", 2),
    ] {
        assert_eq!(number(&query, &Grant::All, sql).await, rows, "{sql}");
    }
}

#[tokio::test]
async fn window_of_time_has_the_same_rows_however_long_it_is() {
    let city = City::new().await;
    // Two dates of three devices, and the newest ten minutes of one more in the tail.
    for (commit, device) in ["p1", "p2", "p3"].into_iter().enumerate() {
        city.commit("parking", vec![parking("lamia", device, 0..3_000)], commit as u64 + 1).await;
    }
    grow(&city).await;
    city.tail_holds(3, vec![(parking("lamia", "p4", 0..10), (4..14).collect())]);
    let query = city.query();
    let count = async |filter: &str| {
        number(&query, &Grant::All, &format!("SELECT count(*) FROM parking WHERE {filter}")).await
    };
    for (from, minutes) in [(0, 1), (0, 5), (5, 10), (300, 400), (800, 900), (100, 1_000), (0, 2_000)] {
        // `to` minutes ago is the beginning of the window, and does not belong to it.
        let to = from + minutes;
        let moment = |minutes: i64| format!("to_timestamp_micros({})", NOW_US - minutes * MINUTE_US);
        let window = format!("time > {} AND time <= {}", moment(to), moment(from));
        let of_tail = (10.min(to) - from).max(0);
        assert_eq!(count(&window).await, 3 * minutes + of_tail, "{window}");
        assert_eq!(count(&format!("{window} AND device = 'p2'")).await, minutes, "{window}");
        assert_eq!(
            count(&format!("{window} AND occupied_spaces >= {}", to - 1)).await,
            3 + i64::from(to <= 10)
        );
        // A column that the files do not have yet.
        assert_eq!(count(&format!("{window} AND barrier_open")).await, 0, "{window}");
        let sum = format!("SELECT sum(occupied_spaces) FROM parking WHERE device = 'p1' AND {window}");
        assert_eq!(number(&query, &Grant::All, &sum).await, (from..to).sum::<i64>(), "{window}");
    }
    let newest = format!("time > to_timestamp_micros({})", NOW_US - 5 * MINUTE_US);
    assert_eq!(count(&newest).await, 20);
}

/// The schemas there are, and parking's next version, which has a column `barrier_open`.
async fn grow(city: &City) {
    let mut domains = Domains::builtin();
    let grown = domains.get("parking").unwrap().newest().text.replace(
        r#"{"name": "temperature_c""#,
        r#"{"name": "barrier_open", "type": ["null", "boolean"], "default": null}, {"name": "temperature_c""#,
    );
    domains.add(&grown).unwrap().expect("it has grown");
    city.lake.keep_schemas(&domains).await.unwrap();
}

#[tokio::test]
async fn column_that_has_come_since_the_last_question_is_answered() {
    let city = City::new().await;
    let query = city.query();
    assert_eq!(number(&query, &Grant::All, "SELECT count(*) FROM parking").await, 0);
    grow(&city).await;
    tokio::time::sleep(REFRESH_AT_MOST).await;
    assert_eq!(number(&query, &Grant::All, "SELECT count(barrier_open) FROM parking").await, 0);
}

#[tokio::test]
async fn column_added_later_is_null_in_old_files() {
    let city = City::new().await;
    city.commit("parking", vec![parking("lamia", "p1", 0..2)], 1).await;
    grow(&city).await;
    let query = city.query();
    let sql = "SELECT count(*) FROM parking WHERE barrier_open IS NULL";
    assert_eq!(number(&query, &Grant::All, sql).await, 2);
}

#[tokio::test]
async fn date_is_hidden_from_star_and_answered_by_name() {
    let city = City::new().await;
    city.commit("parking", vec![parking("lamia", "p1", 0..1)], 1).await;
    let query = city.query();
    let columns = async |sql: &str| -> Vec<String> {
        let answer = query
            .ask(&Grant::All, crate::Rows::LakeAndTail, sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        answer.schema().fields().iter().map(|field| field.name().clone()).collect()
    };
    for hidden in [
        "SELECT * FROM parking",
        "SELECT p.* FROM parking p",
        "SELECT parking.* FROM parking",
        "SELECT * FROM public.parking AS p",
        "SELECT * FROM parking a JOIN fleet b ON a.device = b.device",
        "SELECT * FROM (SELECT * FROM parking) inside",
        "WITH parking AS (SELECT * FROM parking) SELECT * FROM parking",
        "SELECT * FROM parking UNION ALL SELECT * FROM parking",
        "SELECT * FROM dead_letters",
    ] {
        let columns = columns(hidden).await;
        assert!(columns.len() > 3 && !columns.contains(&"date".to_owned()), "{hidden}: {columns:?}");
    }
    assert_eq!(columns("SELECT date FROM parking").await, ["date"]);
    assert!(columns("SELECT *, date FROM parking").await.ends_with(&["date".to_owned()]));
    assert_eq!(columns("WITH parking AS (SELECT 1 AS date) SELECT * FROM parking").await, ["date"]);
    let expected = [
        "tenant",
        "device",
        "time",
        "received_at",
        "seq",
        "extra",
        "occupied_spaces",
        "total_spaces",
        "temperature_c",
    ];
    assert_eq!(columns("SELECT * FROM parking").await, expected);
}
