//! Nothing is acknowledged before the clock is credible.

use std::{sync::atomic::Ordering, time::Duration};

use zeugma_tests::{
    City, Device,
    city::{PATIENCE, moved_clock},
};

/// Long enough for an acknowledgement that must not come.
const A_MOMENT: Duration = Duration::from_millis(1_500);

const HOUR_US: i64 = 3_600_000_000;

fn now_us() -> i64 {
    zeugma::server::clock()()
}

/// A publish that is not acknowledged for a moment.
async fn unacknowledged(mut device: Device, topic: &str, payload: String) -> tokio::task::JoinHandle<()> {
    let topic = topic.to_owned();
    let waiting = tokio::spawn(async move {
        device.publish(&topic, payload).await.unwrap();
    });
    tokio::time::sleep(A_MOMENT).await;
    assert!(!waiting.is_finished(), "it was acknowledged by a clock that is not credible");
    waiting
}

async fn until_doubted(city: &City, wanted: f64) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while city.metric("zeugma_clock_doubted").await != wanted {
        assert!(tokio::time::Instant::now() < deadline, "zeugma_clock_doubted does not become {wanted}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_by_a_clock_from_before_the_build() {
    let (clock, off) = moved_clock(-now_us());
    let city = City::with_clock(clock, |_| ()).await;
    let (status, why) = city.get("/readyz").await;
    assert_eq!((status, why.contains("the year 1970")), (503, true), "{why}");
    let reading = format!(r#"{{"time":{},"occupied_spaces":4}}"#, now_us());
    let waiting = unacknowledged(city.device().await, "city/v1/lamia/parking/p1", reading).await;
    assert_eq!(city.value("SELECT count(*) FROM parking").await, 0);
    off.store(0, Ordering::Relaxed);
    waiting.await.unwrap();
    // It came by a wrong clock; its arrival is that of the right one, so it is no dead letter.
    city.until("SELECT count(*) FROM parking", 1).await;
    let late =
        "SELECT count(*) FROM parking WHERE received_at >= time AND received_at < time + INTERVAL '1 minute'";
    assert_eq!(city.value(late).await, 1);
    assert_eq!(city.dead_letters().await, []);
    assert_eq!(city.get("/readyz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_stop_when_most_devices_are_ahead_of_our_clock() {
    let (clock, off) = moved_clock(-HOUR_US);
    let city = City::with_clock(clock, |_| ()).await;
    let mut device = city.device().await;
    for number in 0..zeugma_ingest::credible_clock::DEVICES_MIN {
        let reading = format!(r#"{{"time":{},"occupied_spaces":4}}"#, now_us());
        device.publish(&format!("city/v1/lamia/parking/p{number}"), reading).await.unwrap();
    }
    until_doubted(&city, 1.0).await;
    let (status, why) = city.get("/readyz").await;
    assert_eq!((status, why.contains("--trust-clock")), (503, true), "{why}");
    let letters = city.value("SELECT count(*) FROM dead_letters").await;
    let reading = format!(r#"{{"time":{},"occupied_spaces":4}}"#, now_us());
    let waiting = unacknowledged(device, "city/v1/lamia/parking/later", reading).await;
    off.store(0, Ordering::Relaxed);
    waiting.await.unwrap();
    city.until("SELECT count(*) FROM parking WHERE device = 'later'", 1).await;
    assert_eq!(city.value("SELECT count(*) FROM dead_letters").await, letters);
    until_doubted(&city, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_who_trusts_the_clock_is_obeyed() {
    let (clock, _) = moved_clock(-now_us());
    let city = City::with_clock(clock, |args| args.ingest.trust_clock = true).await;
    city.publish("city/v1/lamia/parking/p1", r#"{"occupied_spaces":4}"#).await;
    assert_eq!(city.metric("zeugma_clock_doubted").await, 0.0);
}
