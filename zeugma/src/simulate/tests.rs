//! The plan's arithmetic, and whole runs against a broker that only knows how to acknowledge.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use chrono_tz::Tz;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use zeugma_firmware::schedule::Pace;
use zeugma_schemas::topic::Topic;

use super::{plan::Order, *};

fn args() -> Args {
    Args {
        tenants: 3,
        devices: 30,
        rate: None,
        count: None,
        mqtt: "127.0.0.1:1".into(),
        seed: 1,
        format: Format::Avro,
    }
}

fn every_s(order: &Order) -> f64 {
    match order.pace {
        Pace::Every(every) => every.as_micros() as f64 / 1e6,
        Pace::Eager => 0.0,
    }
}

#[test]
fn demo_city_has_three_towns_with_every_kind_of_device() {
    let orders = plan::orders(&args()).expect("the defaults are valid");
    let towns: Vec<_> = orders[..3].iter().map(|o| (o.town.name.as_str(), o.town.zone)).collect();
    let wanted =
        [("lamia", Tz::Europe__Athens), ("ostrava", Tz::Europe__Prague), ("szeged", Tz::Europe__Budapest)];
    assert_eq!(towns, wanted);
    for town in ["lamia", "ostrava", "szeged"] {
        let ids: HashSet<_> =
            orders.iter().filter(|o| o.town.name == town).map(|o| o.device.as_str()).collect();
        assert_eq!(ids.len(), 10);
        for id in ["meter-001", "meter-004", "carpark-001", "bus-002", "hotspot-001"] {
            assert!(ids.contains(id), "{id}");
        }
    }
    assert_eq!(every_s(&orders[0]), 5.0);
}

#[test]
fn devices_of_all_towns_have_names_of_their_own_and_seeds_of_their_own() {
    let orders = plan::orders(&Args { tenants: 400, devices: 4_000, ..args() }).expect("valid");
    let names: HashSet<_> = orders.iter().map(|o| (&o.town.name, &o.device)).collect();
    let seeds: HashSet<_> = orders.iter().map(|o| o.seed).collect();
    assert_eq!((names.len(), seeds.len()), (4_000, 4_000));
    assert!(names.iter().all(|(tenant, device)| {
        let topic = Topic { tenant, domain: "energy", device }.to_string();
        Topic::parse(&topic).is_some()
    }));
}

#[test]
fn readings_and_reports_together_make_the_rate() {
    for (devices, rate) in [(30, 6.0), (30, 0.01), (1, 1.0), (5_000, 20_000.0), (30, 10_000.0)] {
        let orders = plan::orders(&Args { devices, rate: Some(rate), ..args() }).expect("valid");
        let sum: f64 = orders.iter().map(|o| 1.0 / every_s(o) + 1.0 / o.health_every.as_secs_f64()).sum();
        assert!((sum / rate - 1.0).abs() < 0.001, "{devices} {rate}: {sum}");
        assert!(orders.iter().all(|o| o.health_every.as_secs_f64() >= 59.9));
    }
}

#[test]
fn count_is_shared_out_to_the_last_reading() {
    for (devices, count) in [(30, 1_000), (30, 7), (7, 1), (1, 12)] {
        let orders = plan::orders(&Args { devices, count: Some(count), ..args() }).expect("valid");
        assert_eq!(orders.iter().filter_map(|o| o.readings_max).sum::<u64>(), count);
        assert!(orders.iter().all(|o| o.readings_max > Some(0)));
    }
}

#[tokio::test]
async fn wrong_use_says_what_to_do() {
    let wrong = [
        Args { devices: 0, ..args() },
        Args { devices: 1_000_000, ..args() },
        Args { tenants: 0, ..args() },
        Args { rate: Some(-1.0), ..args() },
        Args { rate: Some(f64::NAN), ..args() },
        Args { count: Some(0), ..args() },
        Args { mqtt: "localhost".into(), ..args() },
        Args { mqtt: "localhost:0".into(), ..args() },
    ];
    for args in wrong {
        let err = run(&args, CancellationToken::new()).await.expect_err("wrong use");
        let usage = err.downcast_ref::<Usage>().expect("tagged as wrong use");
        assert!(usage.0.starts_with("--") && usage.0.contains("give"), "{usage}");
    }
}

/// Payloads by topic.
type Heard = Arc<Mutex<HashMap<String, Vec<Vec<u8>>>>>;

/// A broker that acknowledges all; the listener's address, and what it heard.
async fn broker() -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (mqtt, heard) = (listener.local_addr().expect("bound").to_string(), Heard::default());
    let all = heard.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, all.clone()));
        }
    });
    (mqtt, heard)
}

async fn serve(mut stream: TcpStream, heard: Heard) -> std::io::Result<()> {
    loop {
        let kind = stream.read_u8().await?;
        let (mut len, mut shift) = (0, 0);
        loop {
            let byte = stream.read_u8().await?;
            len |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; len];
        stream.read_exact(&mut body).await?;
        match kind >> 4 {
            1 => stream.write_all(&[0x20, 3, 0, 0, 0]).await?,
            3 => {
                let end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                let topic = String::from_utf8_lossy(&body[2..end]).into_owned();
                heard.lock().expect("no panic").entry(topic).or_default().push(body[end + 3..].to_vec());
                stream.write_all(&[0x40, 2, body[end], body[end + 1]]).await?;
            }
            12 => stream.write_all(&[0xd0, 0]).await?,
            _ => return Ok(()),
        }
    }
}

#[tokio::test]
async fn counted_run_delivers_exactly_so_many_readings() {
    let (mqtt, heard) = broker().await;
    let args = Args { mqtt, rate: Some(0.0), count: Some(2_000), format: Format::Json, ..args() };
    let summary = run(&args, CancellationToken::new()).await.expect("runs");
    assert_eq!(summary, Summary { taken: 2_000, acknowledged: 2_000, refused: 0, dropped: 0 });
    assert_eq!(summary.to_string(), "acknowledged 2000 of 2000 readings");
    let heard = heard.lock().expect("no panic");
    let text = |payload: &Vec<u8>| String::from_utf8(payload.clone()).expect("JSON");
    let times: usize = heard.values().flatten().map(|p| text(p).matches("\"time\":").count()).sum();
    assert_eq!(times, 2_000);
    // Each device speaks in its own domain and of itself.
    assert_eq!(heard.len(), 60);
    assert!(heard.contains_key("city/v1/lamia/fleet/bus-001"));
    assert!(heard.contains_key("city/v1/szeged/device_health/hotspot-001"));
}

#[tokio::test]
async fn shutdown_without_a_broker_is_at_once() {
    let args = Args { rate: Some(100.0), ..args() };
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.cancel();
    });
    let start = Instant::now();
    let summary = run(&args, shutdown).await.expect("runs");
    assert!(start.elapsed() < LAST_ACKS_MAX, "{:?}", start.elapsed());
    assert!(summary.taken > 0);
    assert_eq!(summary.acknowledged, 0);
}

#[tokio::test]
async fn shutdown_waits_for_what_is_under_way() {
    let (mqtt, _heard) = broker().await;
    let args = Args { mqtt, rate: Some(0.0), devices: 4, ..args() };
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.cancel();
    });
    let summary = run(&args, shutdown).await.expect("runs");
    assert!(summary.taken > 100);
    assert_eq!(summary.acknowledged, summary.taken);
}
