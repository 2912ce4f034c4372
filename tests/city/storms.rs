//! A small storm: many come back at once among bad guests, and nothing is lost, nothing there twice.

use std::time::Duration;

use zeugma_tests::{
    City,
    storm::{self, Config},
};

#[tokio::test(flavor = "multi_thread")]
async fn everybody_delivers_in_a_storm_of_devices_and_bad_guests() {
    let mut city = City::start().await;
    let config = Config {
        mqtt: city.mqtt(),
        connections: 500,
        each: 20,
        tenants: 40,
        guests: 30,
        steady: 4,
        at_most: Duration::from_secs(120),
    };
    let outcome = storm::run(&config).await.unwrap();
    assert_eq!((outcome.stored, outcome.delivered), (10_000, 10_000));
    assert_eq!((outcome.waits.unheard, outcome.waits.broken), (0, 0));
    for restarted in [false, true] {
        if restarted {
            city.restart().await;
        }
        let found = outcome.check.ask(&city.url("")).await.unwrap();
        assert!(found.is_right(), "{found:?}");
        assert!(found.rows >= outcome.check.acknowledged(), "{found:?}");
    }
}
