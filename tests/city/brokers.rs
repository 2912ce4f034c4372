//! Brokers that are restarted, killed, cut off, forgetful or slow: whatever they keep arrives, and once.

use std::{path::Path, time::Duration};

use zeugma_tests::{
    City, Device, FakeBroker, Program, Wire,
    city::PATIENCE,
    load::{Crowd, Format, Load, Plan},
    peers, program,
};

use super::with_peers::ready;

const TOPIC: &str = "city/v1/lamia/connectivity/h1";
const COUNT: &str = "SELECT count(*) FROM connectivity";
const ONCE: &str = "SELECT count(*) - count(DISTINCT time) FROM connectivity";

fn payload(number: u64) -> Vec<u8> {
    format!(r#"{{"time":{},"up":true,"clients":{}}}"#, 1_700_000_000_000_000 + number, number % 100)
        .into_bytes()
}

/// How long a connection is cut or frozen: `ZEUGMA_CUT_S`, in continuous integration two seconds.
fn outage() -> Duration {
    let seconds = std::env::var("ZEUGMA_CUT_S").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
}

async fn city_behind(url: String) -> City {
    let city = City::with(|args| args.ingest.broker = Some(url)).await;
    ready(&city).await;
    city
}

async fn publish(addr: std::net::SocketAddr, numbers: std::ops::Range<u64>) {
    let mut device = Device::connect(addr).await;
    device.publish_all(TOPIC, numbers.map(payload).collect()).await.unwrap();
}

/// As [`City::until`], with the patience that pauses between attempts to connect ask for.
async fn until(city: &City, wanted: u64) {
    let deadline = tokio::time::Instant::now() + 3 * PATIENCE + outage();
    while city.value(COUNT).await != wanted {
        assert!(tokio::time::Instant::now() < deadline, "{} of {wanted}", city.value(COUNT).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(city.value(ONCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_restarted_in_order_keeps_what_came_while_we_were_away() {
    let mut broker = peers::Mosquitto::start();
    let mut city = city_behind(broker.url()).await;
    publish(broker.addr(), 0..100).await;
    until(&city, 100).await;
    city.stop().await;
    publish(broker.addr(), 100..300).await;
    broker.stop();
    broker.restart();
    city.restart().await;
    until(&city, 300).await;
    broker.stop();
    broker.restart();
    ready(&city).await;
    publish(broker.addr(), 300..400).await;
    until(&city, 400).await;
    assert_eq!(city.metric("zeugma_repeated_total{domain=\"connectivity\"}").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_broker_that_had_saved_loses_nothing() {
    let mut broker = peers::Mosquitto::start();
    let wire = Wire::to(broker.addr()).await;
    let city = city_behind(format!("mqtt://{}", wire.addr())).await;
    publish(broker.addr(), 0..100).await;
    until(&city, 100).await;
    wire.cut();
    publish(broker.addr(), 100..1_000).await;
    broker.save();
    broker.kill();
    broker.restart();
    wire.mend();
    until(&city, 1_000).await;
    // Killed with all delivered and nothing saved since: what it had saved comes again, as repeats.
    broker.kill_and_restart();
    ready(&city).await;
    publish(broker.addr(), 1_000..1_100).await;
    until(&city, 1_100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_that_forgot_our_session_gets_our_subscription_again() {
    let mut broker =
        peers::Mosquitto::with("persistence false\nmax_inflight_messages 0\nmax_queued_messages 0\n");
    let city = city_behind(broker.url()).await;
    for round in 0..3 {
        publish(broker.addr(), round * 100..(round + 1) * 100).await;
        until(&city, (round + 1) * 100).await;
        broker.kill_and_restart();
        ready(&city).await;
    }
    // Devices that missed their acknowledgements publish again.
    publish(broker.addr(), 0..300).await;
    publish(broker.addr(), 300..301).await;
    until(&city, 301).await;
    let repeated = async || city.metric("zeugma_repeated_total{domain=\"connectivity\"}").await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while repeated().await < 300.0 {
        assert!(tokio::time::Instant::now() < deadline, "{} repeats", repeated().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((repeated().await, city.dead_letters().await), (300.0, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_cut_for_a_while_loses_nothing() {
    nothing_is_lost_through(Wire::cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_connection_loses_nothing() {
    nothing_is_lost_through(Wire::freeze).await;
}

/// Something happens to the connection to a broker while devices publish there.
async fn nothing_is_lost_through(harm: impl FnOnce(&Wire)) {
    let broker = peers::Mosquitto::start();
    let wire = Wire::to(broker.addr()).await;
    let city = city_behind(format!("mqtt://{}", wire.addr())).await;
    let publishing = tokio::spawn({
        let addr = broker.addr();
        async move { publish(addr, 0..20_000).await }
    });
    until_some(&city).await;
    harm(&wire);
    tokio::time::sleep(outage()).await;
    wire.mend();
    publishing.await.unwrap();
    until(&city, 20_000).await;
}

async fn until_some(city: &City) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while city.value(COUNT).await == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nothing arrives");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_be_in_flight_waits_for_us_and_arrives() {
    const READINGS: u64 = 200_000;
    let broker = peers::Mosquitto::start();
    let wire = Wire::to(broker.addr()).await;
    let city = city_behind(format!("mqtt://{}", wire.addr())).await;
    let load = Plan {
        addr: broker.addr(),
        crowd: Crowd { connections: 10, devices: 10, tenants: 1, seed: 1 },
        format: Format::Avro,
        in_flight: 1_000,
        rate: None,
        readings: Some(READINGS),
        reconnects: false,
    };
    // The broker sends, and hears of nothing; and again, as long as it has much to send.
    wire.freeze();
    tokio::task::spawn_blocking(|| Load::start(load).unwrap().finish().unwrap()).await.unwrap();
    for _ in 0..2 {
        wire.cut();
        tokio::time::sleep(Duration::from_millis(200)).await;
        wire.mend();
        ready(&city).await;
    }
    city.until("SELECT count(*) FROM fleet", READINGS).await;
    assert_eq!(city.dead_letters().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_in_flight_do_not_stall_twenty_thousand_readings() {
    // What mosquitto does where nobody sets it; only its queue is without limit, as it would drop from it.
    let broker = peers::Mosquitto::with("persistence true\nmax_queued_messages 0\n");
    let city = city_behind(broker.url()).await;
    publish(broker.addr(), 0..20_000).await;
    until(&city, 20_000).await;
    assert_eq!(city.metric("zeugma_acknowledged_total").await, 20_000.0);
    assert_eq!(city.metric("zeugma_repeated_total{domain=\"connectivity\"}").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgement_queued_before_a_cut_never_reaches_the_next_connection() {
    let broker = FakeBroker::start().await;
    let url = format!("mqtt://{}", broker.addr());
    let city = City::with(|args| args.ingest.broker = Some(url)).await;
    let messages: Vec<Vec<u8>> = (0..5_000).map(payload).collect();
    let heard = broker.publish(TOPIC, messages, &[1, 700, 40]).await;
    assert_eq!(heard.len(), 4);
    for (connection, heard) in heard.iter().enumerate() {
        assert_eq!(
            heard.early,
            Vec::<u16>::new(),
            "connection {connection}: acknowledged before anything was sent"
        );
        let in_order = &heard.published[..heard.acknowledged.len()];
        assert_eq!(heard.acknowledged, in_order, "connection {connection}: each once, in order of receipt");
    }
    let acknowledged: usize = heard.iter().map(|heard| heard.acknowledged.len()).sum();
    assert_eq!(acknowledged, 5_000);
    until(&city, 5_000).await;
    assert_eq!(city.dead_letters().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_broker_is_believed_by_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = peers::certificate(folder.path());
    let tls = format!("certfile {}\nkeyfile {}\n", certificate.display(), key.display());
    let broker = peers::Mosquitto::with(&tls);
    let url = format!("mqtts://localhost:{}", broker.addr().port());
    let foreign = folder.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    let (foreign, _) = peers::certificate(&foreign);
    for (trusted, status) in [(&certificate, 200), (&foreign, 503)] {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(ready_status(&url, trusted, data.path(), status).await, status);
    }
}

/// Runs the program with one trusted certificate, until it is as ready as wanted or patience ends.
async fn ready_status(url: &str, trusted: &Path, data: &Path, wanted: u16) -> u16 {
    let (mqtt, http) = (program::free_port().to_string(), program::free_port());
    let (data, http_text) = (data.display().to_string(), http.to_string());
    let args = ["up", "--data", &data, "--mqtt", &mqtt, "--http", &http_text, "--broker", url];
    let _program = Program::start_with(&args, http, |command| {
        command.env("SSL_CERT_FILE", trusted);
    });
    let deadline = tokio::time::Instant::now() + if wanted == 200 { PATIENCE } else { PATIENCE / 4 };
    loop {
        let status = reqwest::get(format!("http://{http}/readyz")).await.unwrap().status().as_u16();
        // Not ready is what it begins with: it must stay so.
        if (status == wanted && wanted == 200) || tokio::time::Instant::now() > deadline {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
