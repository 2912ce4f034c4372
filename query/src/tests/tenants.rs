//! No SQL reaches another tenant's readings.

use super::*;

/// Two tenants, each in the lake and in the tail; `secret` is a device of the one not granted.
async fn two_tenants() -> City {
    let city = City::new().await;
    city.commit("parking", vec![parking("lamia", "p1", 0..5), parking("volos", "secret", 0..7)], 1).await;
    city.commit(
        "dead_letters",
        vec![dead_letter(Some("lamia"), 1), dead_letter(Some("volos"), 2), dead_letter(None, 3)],
        1,
    )
    .await;
    let tail = vec![(parking("lamia", "p1", 5..6), vec![2]), (parking("volos", "secret", 7..9), vec![3, 3])];
    city.tail_holds(1, tail);
    city
}

#[tokio::test]
async fn session_reaches_granted_tenants_only_whatever_the_sql() {
    let city = two_tenants().await;
    let query = city.query();
    let lamia = Grant::tenants(["lamia"]);
    for (sql, rows) in [
        ("SELECT count(*) FROM parking", 6),
        ("SELECT count(1) FROM parking", 6),
        ("SELECT count(*) FROM parking WHERE tenant = 'volos'", 0),
        ("SELECT count(*) FROM parking WHERE tenant = 'volos' OR true", 6),
        ("SELECT count(*) FROM parking a CROSS JOIN parking b", 36),
        ("SELECT count(*) FROM parking a FULL JOIN parking b ON a.tenant <> b.tenant", 12),
        ("SELECT count(*) FROM (SELECT device FROM parking LIMIT 100) x", 6),
        ("SELECT (SELECT count(*) FROM parking)", 6),
        ("SELECT count(*) FROM parking WHERE EXISTS (SELECT 1 FROM parking p WHERE p.tenant = 'volos')", 0),
        ("SELECT count(DISTINCT tenant) FROM parking", 1),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT count(*) FROM r, parking",
            18,
        ),
        ("SELECT count(*) FROM parking WHERE tenant IN (SELECT tenant FROM parking)", 6),
        ("SELECT count(*) FROM dead_letters", 1),
        ("SELECT count(*) FROM parking_latest", 1),
        ("SELECT count(*) FROM parking_latest WHERE tenant = 'volos'", 0),
        ("SELECT count(*) FROM parking_latest WHERE tenant IN ('volos', 'lamia') OR true", 1),
        ("SELECT count(*) FROM table_at('parking', 2)", 5),
        ("SELECT count(*) FROM table_at('parking', 2) WHERE tenant = 'volos'", 0),
    ] {
        assert_eq!(number(&query, &lamia, sql).await, rows, "{sql}");
    }
    assert_eq!(number(&query, &Grant::All, "SELECT count(*) FROM parking").await, 15);
    assert_eq!(number(&query, &Grant::All, "SELECT count(*) FROM dead_letters").await, 3);
    assert_eq!(number(&query, &Grant::tenants(["nobody"]), "SELECT count(*) FROM parking").await, 0);
    assert_eq!(number(&query, &Grant::Tenants(Default::default()), "SELECT count(*) FROM parking").await, 0);
}

#[tokio::test]
async fn filter_never_meets_rows_of_others_that_it_would_fail_for() {
    let city = two_tenants().await;
    let query = city.query();
    // An hour, which is cut out while files are decoded, and all times, which are cut out after.
    for window in ["time > '2026-09-21T13:13:20Z'", "time > '2020-01-01T00:00:00Z'", "true"] {
        let sql = format!(
            "SELECT count(*) FROM parking WHERE {window} AND 1 / (CASE tenant WHEN 'volos' THEN 0 ELSE 1 END) = 1"
        );
        assert_eq!(number(&query, &Grant::tenants(["lamia"]), &sql).await, 6, "{sql}");
        refused(&query, &Grant::All, &sql).await;
    }
}

#[tokio::test]
async fn limit_counts_granted_rows() {
    let city = two_tenants().await;
    let rows = city
        .query()
        .sql(&Grant::tenants(["volos"]), "SELECT occupied_spaces FROM parking LIMIT 8")
        .await
        .unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 8);
}

#[tokio::test]
async fn explain_and_catalogue_show_nothing_of_others() {
    let city = two_tenants().await;
    let query = city.query();
    let lamia = Grant::tenants(["lamia"]);
    for sql in [
        "EXPLAIN SELECT * FROM parking WHERE device > 'a'",
        "EXPLAIN VERBOSE SELECT count(*) FROM parking",
        "EXPLAIN ANALYZE VERBOSE SELECT * FROM parking_latest",
        "EXPLAIN ANALYZE SELECT * FROM parking",
        "EXPLAIN ANALYZE SELECT * FROM table_at('parking', 2)",
        "EXPLAIN ANALYZE VERBOSE SELECT device, count(*) FROM parking GROUP BY device",
        "SHOW TABLES",
        "DESCRIBE parking",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM information_schema.columns",
    ] {
        let answer = text(&query, &lamia, sql).await;
        for hidden in ["volos", "secret", "parquet", "000001-", city.lake.store().url().path(), "lamia"] {
            assert!(!answer.contains(hidden), "`{sql}` shows `{hidden}`:\n{answer}");
        }
        assert!(answer.contains("parking") || sql.starts_with("DESCRIBE"), "{sql}:\n{answer}");
    }
    let plan = text(&query, &lamia, "EXPLAIN SELECT * FROM parking").await;
    assert!(plan.contains("DomainScan: table=parking, version="), "{plan}");
    // Not even the number of rows that were read and left out.
    let plan = text(&query, &lamia, "EXPLAIN ANALYZE SELECT occupied_spaces FROM parking").await;
    assert!(!plan.contains("output_rows=15") && !plan.contains("output_rows=9"), "{plan}");
}
