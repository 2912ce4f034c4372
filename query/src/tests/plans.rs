//! Questions that were asked before.

use super::*;

#[tokio::test]
async fn question_that_was_asked_before_sees_what_has_come_since() {
    let city = City::new().await;
    let query = city.query();
    let of_the_moment = "SELECT count(*) FROM parking WHERE time <= now()";
    let lasting = "SELECT count(*) FROM parking WHERE tenant = 'lamia'";
    let rows = async || {
        [number(&query, &Grant::All, of_the_moment).await, number(&query, &Grant::All, lasting).await]
    };
    assert_eq!(rows().await, [0, 0]);
    city.commit("parking", vec![parking("lamia", "p1", 0..5)], 1).await;
    assert_eq!(rows().await, [5, 5]);
    city.tail_holds(1, vec![(parking("lamia", "p1", 5..7), vec![2, 2])]);
    assert_eq!(rows().await, [7, 7]);
}

#[tokio::test]
async fn now_is_the_moment_of_each_question() {
    let query = City::new().await.query();
    for sql in [
        "SELECT arrow_cast(now(), 'Int64')",
        "SELECT (SELECT arrow_cast(now(), 'Int64'))",
        "SELECT max(n) FROM (SELECT arrow_cast(now(), 'Int64') AS n) AS moments",
        "SELECT arrow_cast(max(value), 'Int64') FROM generate_series(now() - INTERVAL '1 minute', now(), \
         INTERVAL '1 second')",
    ] {
        let first = number(&query, &Grant::All, sql).await;
        let second = number(&query, &Grant::All, sql).await;
        assert!(second > first, "{sql}");
    }
}
