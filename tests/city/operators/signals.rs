//! Stopping and hurrying the real binary, and a lake that goes away meanwhile.

use std::{
    io::Write,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use zeugma_tests::{Device, city::PATIENCE};

use super::{BUS, Place, bus_at};

/// The program's own promise, not a measure of speed.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Publishes until the connection ends; counts what was acknowledged, from a second on.
async fn keep_publishing(place: &Place, from: i64) -> Arc<AtomicI64> {
    let mut device = Device::connect(place.mqtt).await;
    let acknowledged = Arc::new(AtomicI64::new(0));
    let count = acknowledged.clone();
    tokio::spawn(async move {
        for second in from.. {
            match device.publish(BUS, bus_at(second)).await {
                Ok(_) => drop(count.fetch_add(1, Ordering::SeqCst)),
                Err(_) => return,
            }
        }
    });
    acknowledged
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_ends_with_0_and_keeps_all_that_was_acknowledged() {
    let place = Place::new();
    let mut kept = 0;
    for round in 0..3 {
        let program = place.up(&["--commit-interval", "200ms"], |_| ());
        kept = place.until_buses(kept).await;
        let acknowledged = keep_publishing(&place, round * 1_000_000).await;
        let flood: Vec<_> = (500_000..505_000).map(|second| bus_at(round * 1_000_000 + second)).collect();
        let mut device = Device::connect(place.mqtt).await;
        device.publish_all("city/v1/lamia/fleet/bus-2", flood).await.unwrap();
        until("nothing is acknowledged", || acknowledged.load(Ordering::SeqCst) > 50).await;
        program.signal("TERM");
        assert_eq!(program.ended_within(STOP_MAX).code(), Some(0));
        kept += 5_000 + acknowledged.load(Ordering::SeqCst);
    }
    let program = place.up(&[], |_| ());
    // What was synced and not acknowledged any more may be there as well.
    let found = place.until_buses(kept).await;
    assert!(found <= kept + 3, "{found} readings, of which {kept} were acknowledged");
    assert!(program.interrupt().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_at_once_and_loses_nothing() {
    let place = Place::new();
    let mut program = place.up(&["--commit-interval", "1h"], |_| ());
    let acknowledged = keep_publishing(&place, 0).await;
    until("nothing is acknowledged", || acknowledged.load(Ordering::SeqCst) > 50).await;
    // A question whose end does not come keeps an orderly stop waiting.
    let mut slow = TcpStream::connect(place.http).unwrap();
    let head = "POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    slow.write_all(head.as_bytes()).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    program.signal("TERM");
    until("it does not stop", || place.log().contains("stopping")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(program.runs(), "the stop waits for the slow question");
    program.signal("INT");
    assert_eq!(program.ended_within(Duration::from_secs(5)).code(), Some(1));
    let again = place.up(&[], |_| ());
    place.until_buses(acknowledged.load(Ordering::SeqCst)).await;
    assert!(again.interrupt().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn lake_that_goes_away_is_told_of_and_does_not_spoil_a_stop() {
    let place = Place::new();
    let log = |what: &str| place.log().lines().filter(|line| line.contains(what)).count();
    let program = place.up(&["--commit-interval", "200ms", "--log-format", "json"], |_| ());
    let mut device = Device::connect(place.mqtt).await;
    device.publish(BUS, bus_at(1)).await.unwrap();
    place.until_buses(1).await;
    let (lake, aside) = (place.folder.path().join("data/lake"), place.folder.path().join("aside"));
    let take_away = || {
        std::fs::rename(&lake, &aside).unwrap();
        std::fs::write(&lake, "no folder").unwrap();
    };
    let put_back = || {
        std::fs::remove_file(&lake).unwrap();
        std::fs::rename(&aside, &lake).unwrap();
    };
    take_away();
    device.publish(BUS, bus_at(2)).await.unwrap();
    until("no failed commit is told of", || log("a commit failed") > 0).await;
    let failures = place.get("/metrics").await;
    let failures =
        failures.lines().find(|line| line.starts_with("zeugma_commit_failures_total{domain=\"fleet\"}"));
    assert!(failures.is_some_and(|line| !line.ends_with(" 0")), "{failures:?}");
    put_back();
    until("the lake's return is not told of", || log("the lake is back") > 0).await;
    take_away();
    device.publish(BUS, bus_at(3)).await.unwrap();
    program.signal("TERM");
    assert_eq!(program.ended_within(STOP_MAX).code(), Some(0));
    put_back();
    let program = place.up(&[], |_| ());
    assert_eq!(place.until_buses(3).await, 3);
    assert!(program.interrupt().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn json_logs_are_one_object_a_line_with_fields() {
    let place = Place::new();
    let program = place.up(&["--log-format", "json"], |_| ());
    assert!(program.interrupt().success());
    let log = place.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let line = |message: &str| {
        let found =
            lines.iter().find(|line| line["message"].as_str().is_some_and(|m| m.starts_with(message)));
        found.unwrap_or_else(|| panic!("no line `{message}`: {log}"))
    };
    assert_eq!(line("started")["mqtt"], place.mqtt.to_string());
    assert_eq!(line("started")["http"], place.http.to_string());
    assert_eq!(line("stopping")["reason"], "told to");
    assert_eq!(line("journal open")["records"], 0);
    assert_eq!(line("stopped")["level"], "INFO");
}
