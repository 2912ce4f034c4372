//! Plans that the engine executes more than once.

use super::*;

/// A city whose rows lie in a file of several pieces, and none in the tail.
async fn city() -> City {
    let city = City::new().await;
    city.commit("parking", vec![parking("lamia", "p1", 0..60_000)], 1).await;
    city
}

#[tokio::test]
async fn each_step_of_a_recursion_sees_all_rows() {
    let city = city().await;
    let query = city.query();
    let sql = "WITH RECURSIVE steps AS (SELECT 0 AS n UNION ALL
        SELECT steps.n + 1 FROM steps, parking WHERE steps.n < 5 AND occupied_spaces = 7)
        SELECT count(*) FROM steps";
    assert_eq!(number(&query, &Grant::All, sql).await, 6);
}

/// A join of all rows with two others, without a key that both have.
fn zones(join: &str) -> String {
    format!(
        "SELECT count(*) FROM parking {join} JOIN (VALUES (100, 299), (200, 20000)) AS zone (first, last)
         ON occupied_spaces BETWEEN zone.first AND zone.last"
    )
}

fn with_little_memory(city: &City) -> Query {
    let config = Config { memory_bytes_max: 1 << 20, ..Config::default() };
    Query::new(city.lake.clone(), Some(city.tail.clone()), config).unwrap()
}

#[tokio::test]
async fn join_without_keys_that_goes_to_the_disk_has_all_rows() {
    let city = city().await;
    let query = with_little_memory(&city);
    assert_eq!(number(&query, &Grant::All, &zones("")).await, 200 + 19_801);
}

#[tokio::test]
async fn outer_join_without_keys_is_right_or_refused() {
    let city = city().await;
    assert_eq!(number(&city.query(), &Grant::All, &zones("LEFT")).await, 60_000 + 100);
    let error = refused(&with_little_memory(&city), &Grant::All, &zones("LEFT")).await;
    assert!(matches!(error, Error::Limit(_)), "{error:?}");
}
