//! What is erased or too old is found nowhere, and everything else stays.

mod sweep;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use serde_json::{Value, json};
use zeugma_lake::{
    Lake, Lease,
    erasure::Erasure,
    upkeep::{KEEP_DEFAULT, KEEP_ERASED},
};
use zeugma_tests::{
    City,
    city::{PATIENCE, moved_clock},
    program,
};

/// 2026-09-21T14:13:20Z and some seconds.
fn payload(second: u64) -> Vec<u8> {
    let time_us = (1_790_000_000 + second) * 1_000_000;
    format!(r#"{{"time":{time_us},"latitude":38.9,"longitude":22.4}}"#).into_bytes()
}

fn topic(tenant: &str, device: &str) -> String {
    format!("city/v1/{tenant}/fleet/{device}")
}

async fn zeugma(city: &City, args: &[&str]) -> (Option<i32>, String, String) {
    program::says(&[args, &["--url", &city.url("")]].concat()).await
}

async fn erase(city: &City, device: &str, more: &[&str]) -> Erasure {
    let args = [&["erase", "--tenant", "lamia", "--device", device], more].concat();
    let (code, says, error) = zeugma(city, &args).await;
    assert_eq!(code, Some(0), "{error}");
    serde_json::from_str(&says).unwrap()
}

/// Readings of each device, by tenant.
async fn counts(city: &City) -> Vec<Vec<Value>> {
    city.sql("SELECT tenant, device, count(*) FROM fleet GROUP BY 1, 2 ORDER BY 1, 2").await
}

#[tokio::test(flavor = "multi_thread")]
async fn erased_device_is_found_nowhere_and_everything_else_stays() {
    let (clock, by_us) = moved_clock(0);
    let mut city = City::with_clock(clock, |_| {}).await;
    for second in 0..3 {
        for (tenant, device) in [("lamia", "bus-odd-77"), ("lamia", "bus-2"), ("ostrava", "bus-odd-77")] {
            city.publish(&topic(tenant, device), payload(second)).await;
        }
        // Some of it is in the lake by now, the last only in journal and tail.
        if second < 2 {
            city.restart().await;
        }
    }
    city.publish(&topic("lamia", "bus-odd-77"), "nonsense").await;
    city.publish(&topic("lamia", "bus-2"), "nonsense").await;
    let version = Lake::open(&city.lake()).await.unwrap().table("fleet").load().await.unwrap().version();
    let (_, before) = city.get(&format!("/api/v1/sql?version={version}&q=SELECT+count(*)+FROM+fleet")).await;
    assert!(before.contains("6"), "{before}");

    let erasure = erase(&city, "bus-odd-77", &[]).await;
    assert_eq!(erasure.rows(), 3 + 1);
    let left = json!([["lamia", "bus-2", 3], ["ostrava", "bus-odd-77", 3]]);
    assert_eq!(json!(counts(&city).await), left);
    let latest = city.sql("SELECT tenant, device FROM fleet_latest ORDER BY 1, 2").await;
    assert_eq!(json!(latest), json!([["lamia", "bus-2"], ["ostrava", "bus-odd-77"]]));
    let letters = city.sql("SELECT topic FROM dead_letters").await;
    assert_eq!(json!(letters), json!([[topic("lamia", "bus-2")]]));
    let (status, gone) = city.get(&format!("/api/v1/sql?version={version}&q=SELECT+*+FROM+fleet")).await;
    assert!(status == 410 && gone.contains("erased"), "{status} {gone}");
    let (status, gone) = city.post_sql(&format!("SELECT * FROM table_at('fleet', {version})")).await;
    assert_eq!(status, 410, "{gone}");

    // Nobody can be reading the old files any more.
    by_us.fetch_add(KEEP_ERASED.as_micros() as i64 + 1, Ordering::SeqCst);
    city.restart().await;
    let proof = finished(&city, &erasure.id).await;
    assert!(proof.tables.iter().any(|table| table.files_deleted > 0 && table.log_entries_deleted > 0));
    assert!(proof.outside.iter().any(|place| place.contains("backups")));
    assert_eq!(json!(counts(&city).await), left);
    city.stop().await;
    only_the_proof_tells(&city, |has| {
        has("city/v1/lamia/fleet/bus-odd-77") || (has("bus-odd-77") && !has("ostrava"))
    });
    // It may come again: nobody has blocked it.
    city.restart().await;
    city.publish(&topic("lamia", "bus-odd-77"), payload(9)).await;
    city.until("SELECT count(*) FROM fleet WHERE tenant = 'lamia' AND device = 'bus-odd-77'", 1).await;
}

/// The proof of an erasure, once it is finished.
async fn finished(city: &City, id: &str) -> Erasure {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (code, says, error) = zeugma(city, &["erasures", id]).await;
        assert_eq!(code, Some(0), "{error}");
        let erasure: Erasure = serde_json::from_str(&says).unwrap();
        if erasure.finished_at.is_some() {
            return erasure;
        }
        assert!(tokio::time::Instant::now() < deadline, "{says}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// That of all files of a city only the proof of an erasure is so.
fn only_the_proof_tells(city: &City, tells: impl Fn(&dyn Fn(&str) -> bool) -> bool) {
    let mut found = files(&city.folder().join("data"));
    found.retain(|path| {
        // Parquet's statistics are as they are, whatever its pages are packed with.
        let bytes = std::fs::read(path).unwrap();
        tells(&|text| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    });
    assert_eq!(found.len(), 1, "only the proof names it: {found:?}");
    assert!(found[0].display().to_string().contains("_zeugma/erasures"));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_the_cut_goes_and_what_comes_after_stays_while_devices_publish() {
    let city = Arc::new(City::with(|args| args.ingest.commit_interval = Duration::from_millis(30)).await);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let publishing = tokio::spawn({
        let (city, acknowledged) = (city.clone(), acknowledged.clone());
        async move {
            let mut device = city.device().await;
            for second in 0.. {
                let reason = device.publish(&topic("lamia", "bus-1"), payload(second)).await.unwrap();
                assert_eq!(reason, PubAckReason::Success);
                acknowledged.store(second + 1, Ordering::SeqCst);
            }
        }
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = acknowledged.load(Ordering::SeqCst);
        erase(&city, "bus-1", &[]).await;
        let after = acknowledged.load(Ordering::SeqCst);
        let first = "SELECT (min(CAST(time AS BIGINT)) / 1000000) - 1790000000 FROM fleet";
        tokio::time::sleep(Duration::from_millis(100)).await;
        let first = city.value(first).await.as_u64().expect("devices go on publishing");
        assert!((before..=after).contains(&first), "{before} <= {first} <= {after}");
    }
    publishing.abort();
    // All since the cut, each once.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let rows = "SELECT max(CAST(time AS BIGINT)) - min(CAST(time AS BIGINT)), count(*), count(DISTINCT time) FROM fleet";
    let row = city.sql(rows).await.remove(0);
    let readings = row[1].as_u64().unwrap();
    assert_eq!(row, [json!((readings - 1) * 1_000_000), json!(readings), json!(readings)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_device_is_refused_until_that_is_lifted() {
    let mut city = City::start().await;
    city.publish(&topic("lamia", "bus-1"), payload(0)).await;
    erase(&city, "bus-1", &["--and-block"]).await;
    for _ in 0..2 {
        let mut device = city.device().await;
        let refused = device.publish(&topic("lamia", "bus-1"), payload(1)).await.unwrap();
        assert_eq!(refused, PubAckReason::NotAuthorized);
        let other = device.publish(&topic("lamia", "bus-2"), payload(1)).await.unwrap();
        assert_eq!(other, PubAckReason::Success);
        assert_eq!(json!(counts(&city).await), json!([["lamia", "bus-2", 1]]));
        assert_eq!(city.dead_letters().await, []);
        assert_eq!(zeugma(&city, &["blocked", "list"]).await.1, "lamia bus-1");
        // Who is blocked stays so.
        city.restart().await;
    }
    let (code, says, error) =
        zeugma(&city, &["blocked", "lift", "--tenant", "lamia", "--device", "bus-1"]).await;
    assert_eq!((code, says.as_str()), (Some(0), "taken again: lamia bus-1"), "{error}");
    let (code, _, error) =
        zeugma(&city, &["blocked", "lift", "--tenant", "lamia", "--device", "bus-1"]).await;
    assert!(code == Some(1) && error.contains("is not blocked"), "{error}");
    city.publish(&topic("lamia", "bus-1"), payload(2)).await;
    city.until("SELECT count(*) FROM fleet WHERE device = 'bus-1'", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenant_is_erased_as_a_whole_only_where_that_is_said() {
    let mut city = City::start().await;
    for (tenant, device) in [("lamia", "bus-1"), ("lamia", "bus-2"), ("argos", "bus-1")] {
        city.publish(&topic(tenant, device), payload(0)).await;
    }
    // All of it is in the lake, and who asks knows this version.
    city.restart().await;
    assert_eq!(counts(&city).await.len(), 3);
    let (code, _, error) = zeugma(&city, &["erase", "--tenant", "lamia"]).await;
    assert!(code == Some(64) && error.contains("--all-devices"), "{error}");
    let (code, _, error) = zeugma(&city, &["erase", "--tenant", "la/mia", "--all-devices"]).await;
    assert!(code == Some(1) && error.contains("is no name"), "{error}");
    let (code, _, error) = zeugma(&city, &["erase", "--tenant", "lamia", "--all-devices"]).await;
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(json!(counts(&city).await), json!([["argos", "bus-1", 1]]));
    let (_, says, _) = zeugma(&city, &["erasures"]).await;
    assert!(says.contains("lamia, all devices  2 rows  not found since"), "{says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_older_than_is_kept_go_by_tenant_and_domain() {
    let city = City::with(|args| args.ingest.commit_interval = Duration::from_millis(50)).await;
    let now_s = zeugma::server::clock()() / 1_000_000;
    let at = |days: i64| {
        let time_us = (now_s - days * 86_400) * 1_000_000;
        format!(r#"{{"time":{time_us},"latitude":38.9,"longitude":22.4}}"#).into_bytes()
    };
    for tenant in ["lamia", "argos", "ostrava"] {
        for days in [100, 40, 10] {
            city.publish(&topic(tenant, "bus-1"), at(days)).await;
        }
        city.publish(&topic(tenant, "bus-2"), at(50)).await;
    }
    let (_, says, _) = zeugma(&city, &["retention", "list"]).await;
    assert_eq!(says, "there are no rules: everything is kept for ever");
    let set = async |args: &[&str]| {
        let (code, says, error) = zeugma(&city, &[&["retention", "set"], args].concat()).await;
        assert_eq!(code, Some(0), "{error}");
        says
    };
    // The widest rule last, as each is in force at once.
    set(&["--keep", "forever", "--tenant", "argos"]).await;
    set(&["--keep", "30d", "--domain", "fleet", "--tenant", "lamia"]).await;
    assert_eq!(set(&["--keep", "60d", "--domain", "fleet"]).await, "all tenants, fleet: 60 days");
    let fewer = "SELECT count(*) FROM fleet";
    city.until(fewer, 1 + 4 + 3).await;
    let left = json!([
        ["argos", "bus-1", 3],
        ["argos", "bus-2", 1],
        ["lamia", "bus-1", 1],
        ["ostrava", "bus-1", 2],
        ["ostrava", "bus-2", 1],
    ]);
    assert_eq!(json!(counts(&city).await), left);
    // Whose newest reading was too old has none.
    let latest = city.sql("SELECT tenant, device FROM fleet_latest WHERE device = 'bus-2' ORDER BY 1").await;
    assert_eq!(json!(latest), json!([["argos", "bus-2"], ["ostrava", "bus-2"]]));
    assert_eq!(city.metric("zeugma_expired_total{domain=\"fleet\"}").await, 4.0);
    // A rule less, and what comes is kept again.
    let (code, says, error) =
        zeugma(&city, &["retention", "unset", "--domain", "fleet", "--tenant", "lamia"]).await;
    assert_eq!(
        (code, says.as_str()),
        (Some(0), "all tenants, fleet: 60 days\nargos, all tables: for ever"),
        "{error}"
    );
    let (code, _, error) = zeugma(&city, &["retention", "unset", "--tenant", "lamia"]).await;
    assert!(code == Some(1) && error.contains("there is no rule"), "{error}");
    let (code, _, error) = zeugma(&city, &["retention", "set", "--keep", "5d", "--domain", "flet"]).await;
    assert!(code == Some(1) && error.contains("flet"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_has_taken_before_is_found_nowhere_either_once_it_is_erased() {
    let (clock, by_us) = moved_clock(0);
    let every = Duration::from_millis(50);
    let mut city = City::with_clock(clock.clone(), |args| args.ingest.commit_interval = every).await;
    for (device, days) in [("bus-odd-77", 100), ("bus-2", 0)] {
        let time_us = clock() - days * 86_400_000_000;
        let payload = format!(r#"{{"time":{time_us},"latitude":38.9,"longitude":22.4}}"#);
        city.publish(&topic("lamia", device), payload).await;
    }
    // All of it is in the lake, from where it goes.
    city.restart().await;
    let (code, _, error) = zeugma(&city, &["retention", "set", "--keep", "30d", "--domain", "fleet"]).await;
    assert_eq!(code, Some(0), "{error}");
    city.until("SELECT count(*) FROM fleet", 1).await;
    // No version that has it can be read any more, and its file is deleted; here by a hand that is quicker.
    let keep_us = KEEP_DEFAULT.as_micros() as i64;
    by_us.fetch_add(2 * keep_us, Ordering::SeqCst);
    city.stop().await;
    let (lake, now_ms) = (Lake::open(&city.lake()).await.unwrap(), clock() / 1_000);
    let lease = Lease::take(lake.store(), "another", now_ms).await.unwrap();
    let table = lake.table("fleet");
    assert!(table.vacuum(&lease, KEEP_DEFAULT, now_ms).await.unwrap() > 0);
    assert!(table.at(table.load().await.unwrap().rows_gone_in() - 1).await.is_err());
    // Its lease runs out.
    by_us.fetch_add(keep_us, Ordering::SeqCst);
    city.restart().await;
    let erasure = erase(&city, "bus-odd-77", &[]).await;
    assert_eq!(erasure.rows(), 0);
    by_us.fetch_add(KEEP_ERASED.as_micros() as i64 + 1, Ordering::SeqCst);
    finished(&city, &erasure.id).await;
    assert_eq!(json!(counts(&city).await), json!([["lamia", "bus-2", 1]]));
    city.stop().await;
    only_the_proof_tells(&city, |has| has("bus-odd-77"));
}
