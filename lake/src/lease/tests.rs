use super::*;

fn store() -> Arc<Store> {
    Arc::new(Store::open("memory:///lake").unwrap())
}

#[tokio::test]
async fn second_source_is_refused_until_the_lease_runs_out() {
    let store = store();
    let first = Lease::take(&store, "a", 0).await.unwrap();
    let refused = Lease::take(&store, "b", LEASE_MS - 1).await.unwrap_err();
    assert!(matches!(&refused, Error::Held { holder, left_s: 1, .. } if holder == "a"), "{refused}");
    let second = Lease::take(&store, "b", LEASE_MS).await.unwrap();
    assert!(second.epoch() > first.epoch());
    assert!(matches!(first.renew(LEASE_MS).await, Err(Error::Fenced { .. })));
}

#[tokio::test]
async fn same_source_takes_the_lake_again_at_once() {
    let store = store();
    let first = Lease::take(&store, "a", 0).await.unwrap();
    let again = Lease::take(&store, "a", 1).await.unwrap();
    assert_eq!(again.epoch(), first.epoch() + 1);
}

#[tokio::test]
async fn released_lake_is_free_at_once() {
    let store = store();
    Lease::take(&store, "a", 0).await.unwrap().release().await.unwrap();
    Lease::take(&store, "b", 1).await.unwrap();
}

#[tokio::test]
async fn renewed_lease_holds_on() {
    let store = store();
    Lease::take(&store, "a", 0).await.unwrap().renew(RENEW_MS).await.unwrap();
    assert!(Lease::take(&store, "b", LEASE_MS + 1).await.is_err());
}
