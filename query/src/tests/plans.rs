//! Questions that were asked before.

use super::*;

#[tokio::test]
async fn question_that_was_asked_before_sees_what_has_come_since() {
    let city = City::new().await;
    let query = city.query();
    let sql = "SELECT count(*) FROM parking WHERE time <= now()";
    assert_eq!(number(&query, &Grant::All, sql).await, 0);
    city.commit("parking", vec![parking("lamia", "p1", 0..5)], 1).await;
    assert_eq!(number(&query, &Grant::All, sql).await, 5);
    city.tail_holds(1, vec![(parking("lamia", "p1", 5..7), vec![2, 2])]);
    assert_eq!(number(&query, &Grant::All, sql).await, 7);
}

#[tokio::test]
async fn now_is_the_moment_of_each_question() {
    let query = City::new().await.query();
    let sql = "SELECT arrow_cast(now(), 'Int64')";
    let first = number(&query, &Grant::All, sql).await;
    assert!(number(&query, &Grant::All, sql).await > first);
}
