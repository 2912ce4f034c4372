//! The lake fails beside an erasure, at each of its steps in turn.

use std::{sync::Arc, time::Duration};

use arrow::{array::AsArray, datatypes::TimestampMicrosecondType};
use futures::{StreamExt, TryStreamExt};
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use zeugma_ingest::{Ingest, door::limits::Limits};
use zeugma_lake::{
    Lake, Store,
    erasure::{Erasing, Erasure},
    find,
    gone::Subject,
    upkeep::KEEP_DEFAULT,
};
use zeugma_schemas::domain::Domains;
use zeugma_tests::{
    Device,
    city::PATIENCE,
    simulation::store::{SimStore, StoreFault},
};

use super::{files, payload, topic};

/// A city of which only the writer runs, over a store that fails.
struct Writer {
    store: Arc<SimStore>,
    folder: tempfile::TempDir,
    /// How often it commits, and looks after its tables.
    every: Duration,
    ingest: Option<Ingest>,
}

impl Writer {
    async fn start() -> Writer {
        Writer::at_work(Duration::from_millis(30)).await
    }

    async fn at_work(every: Duration) -> Writer {
        let (store, folder) = (Arc::<SimStore>::default(), tempfile::tempdir().unwrap());
        let mut writer = Writer { store, folder, every, ingest: None };
        writer.restart().await;
        writer
    }

    async fn lake(&self) -> Lake {
        let url = "memory:///".parse().unwrap();
        Lake::open_in(Store::with_root(self.store.clone(), url).unwrap()).await.unwrap()
    }

    /// Whatever the lake answers, it ends; then the lake answers again, and the next one starts.
    async fn restart(&mut self) {
        if let Some(ingest) = self.ingest.take() {
            ingest.stop().await.unwrap();
        }
        self.store.calm();
        let config = zeugma_ingest::Config {
            data: self.folder.path().to_owned(),
            schemas: None,
            broker: None,
            commit_interval: self.every,
            keep_versions: KEEP_DEFAULT,
            trust_clock: false,
            limits: Limits::default(),
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let started = Ingest::start(config, self.lake().await, Some(listener), zeugma::server::clock()).await;
        self.ingest = Some(started.unwrap());
    }

    /// What the disk has now is all that the next one finds.
    async fn kill(&mut self) {
        let left = tempfile::tempdir().unwrap();
        for path in files(self.folder.path()) {
            let copy = left.path().join(path.strip_prefix(self.folder.path()).unwrap());
            std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
            std::fs::copy(path, copy).unwrap();
        }
        self.ingest.take().unwrap().stop().await.unwrap();
        self.folder = left;
        self.restart().await;
    }

    async fn publish(&self, device: &str, second: u64) {
        let mut publisher = Device::connect(self.ingest.as_ref().unwrap().mqtt_addr().unwrap()).await;
        let reason = publisher.publish(&topic("lamia", device), payload(second)).await.unwrap();
        assert_eq!(reason, PubAckReason::Success);
    }

    /// Devices and seconds of all rows that the lake has.
    async fn rows(&self) -> Vec<(String, i64)> {
        let table = self.lake().await.table("fleet");
        let columns = Domains::builtin().get("fleet").unwrap().columns().clone();
        let mut found = Vec::new();
        for file in table.load().await.unwrap().files() {
            let mut batches =
                std::pin::pin!(find::read(&table.store().root(), file, &columns).await.unwrap());
            while let Some(rows) = batches.try_next().await.unwrap() {
                let times = rows.column_by_name("time").unwrap().as_primitive::<TimestampMicrosecondType>();
                let seconds = times.values().iter().map(|time_us| time_us / 1_000_000 - 1_790_000_000);
                let devices = rows.column_by_name("device").unwrap().as_string_view();
                found.extend(devices.iter().map(|device| device.unwrap().to_owned()).zip(seconds));
            }
        }
        found.sort();
        found
    }

    /// Devices whose newest reading is known.
    async fn newest(&self) -> Vec<String> {
        let table = self.lake().await.table("fleet");
        let columns = Domains::builtin().get("fleet").unwrap().columns().clone();
        let latest = table.latest(&table.load().await.unwrap(), &columns, None).await.unwrap();
        let devices = latest.rows().column_by_name("device").unwrap().as_string_view();
        devices.iter().map(|device| device.unwrap().to_owned()).collect()
    }

    async fn until_rows(&self, wanted: &[(&str, i64)], why: &str) {
        let wanted: Vec<(String, i64)> =
            wanted.iter().map(|(device, second)| ((*device).to_owned(), *second)).collect();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found = self.rows().await;
            if found == wanted {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{why}: {found:?}, wanted {wanted:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Erases a device; whether that could be said to be done.
    async fn erase(&self, device: &str) -> bool {
        let subject = Subject { tenant: "lamia".into(), device: Some(device.into()) };
        let reports = self.ingest.as_ref().unwrap().upkeep().erase(subject, false).unwrap();
        let reports: Vec<_> = reports.collect().await;
        matches!(reports.last(), Some(Ok(Erasing::Done(_))))
    }

    /// Waits until what was begun is through with its rows, and answers how many of them went.
    async fn gone(&self) -> u64 {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let erasures = self.lake().await.erasures().await.unwrap();
            if erasures.iter().all(|erasure| erasure.rows_gone_at.is_some()) {
                return erasures.iter().map(Erasure::rows).sum();
            }
            assert!(tokio::time::Instant::now() < deadline, "{erasures:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One erasure beside which the lake's store fails at the put of this number; says whether it came to that.
async fn erase_with_fault(fault: StoreFault, at: u8) -> bool {
    let why = format!("{fault:?} at {at}");
    let mut writer = Writer::start().await;
    for (device, second) in [("bus-1", 0), ("bus-2", 1), ("bus-1", 2)] {
        writer.publish(device, second).await;
    }
    writer.until_rows(&[("bus-1", 0), ("bus-1", 2), ("bus-2", 1)], &why).await;
    writer.store.arm(fault, at);
    let done = writer.erase("bus-1").await;
    let happened = !writer.store.is_armed();
    if fault == StoreFault::Gone && happened {
        // As a kill would, but that the lake hears nothing of the end either.
        writer.restart().await;
    }
    writer.store.calm();
    let gone = writer.gone().await;
    let noted = !writer.lake().await.erasures().await.unwrap().is_empty();
    assert!(noted || !done, "{why}");
    if !noted {
        // Nothing was begun, and that was said.
        assert!(writer.erase("bus-1").await, "{why}");
    }
    assert!(gone == 2 || !noted, "{why}: {gone} rows");
    // What comes after it stays, and is committed as ever.
    for (device, second) in [("bus-1", 3), ("bus-3", 4)] {
        writer.publish(device, second).await;
    }
    writer.until_rows(&[("bus-1", 3), ("bus-2", 1), ("bus-3", 4)], &why).await;
    writer.restart().await;
    writer.until_rows(&[("bus-1", 3), ("bus-2", 1), ("bus-3", 4)], &why).await;
    happened
}

/// Such erasures for every put there is.
async fn with_each_put(erase: impl AsyncFn(u8) -> bool) {
    let mut at = 0;
    while erase(at).await {
        at += 1;
    }
    assert!(at > 5, "an erasure has more steps than {at}");
}

#[tokio::test(flavor = "multi_thread")]
async fn erasure_is_finished_whatever_answer_of_the_lake_is_lost() {
    with_each_put(async |at| erase_with_fault(StoreFault::AnyLost, at).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn erasure_is_finished_by_the_next_start_wherever_it_was_cut_short() {
    with_each_put(async |at| erase_with_fault(StoreFault::Gone, at).await).await;
}

/// Two erasures of rows that lie in one file: the second is asked for at once where the lake's store fails beside the
/// first, at the put of this number; says whether it came to that.
async fn erase_two_with_fault(fault: StoreFault, at: u8) -> bool {
    let why = format!("{fault:?} at {at}");
    // Nothing is tried again by itself before the second begins.
    let writer = Writer::at_work(Duration::from_secs(3_600)).await;
    for (device, second) in [("bus-1", 0), ("bus-2", 1), ("bus-3", 2)] {
        writer.publish(device, second).await;
    }
    writer.store.arm(fault, at);
    let done = writer.erase("bus-1").await;
    let happened = !writer.store.is_armed();
    writer.store.calm();
    let noted = !writer.lake().await.erasures().await.unwrap().is_empty();
    assert!(noted || !done, "{why}");
    assert!(writer.erase("bus-2").await, "{why}");
    if !noted {
        assert!(writer.erase("bus-1").await, "{why}");
    }
    for erasure in writer.lake().await.erasures().await.unwrap() {
        assert!(erasure.rows() == 1 && erasure.rows_gone_at.is_some(), "{why}: {erasure:?}");
    }
    assert_eq!(writer.rows().await, [("bus-3".to_owned(), 2)], "{why}");
    assert_eq!(writer.newest().await, ["bus-3"], "{why}");
    happened
}

#[tokio::test(flavor = "multi_thread")]
async fn second_erasure_waits_until_the_first_is_done() {
    for fault in [StoreFault::AnyRefused, StoreFault::AnyLost] {
        with_each_put(async |at| erase_two_with_fault(fault, at).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn second_erasure_is_not_begun_while_the_first_cannot_go_on() {
    let writer = Writer::at_work(Duration::from_secs(3_600)).await;
    for (device, second) in [("bus-1", 0), ("bus-2", 1), ("bus-3", 2)] {
        writer.publish(device, second).await;
    }
    // Of the table's log, after the commit of what came before: the removal.
    writer.store.arm(StoreFault::Refused, 1);
    assert!(!writer.erase("bus-1").await);
    writer.store.arm(StoreFault::Refused, 0);
    assert!(!writer.erase("bus-2").await);
    assert!(!writer.store.is_armed());
    let begun = writer.lake().await.erasures().await.unwrap();
    let devices: Vec<_> = begun.iter().map(|erasure| erasure.subject.device.as_deref()).collect();
    assert_eq!(devices, [Some("bus-1")]);
    // It is tried again with the next that is asked for.
    assert!(writer.erase("bus-2").await);
    assert_eq!(writer.rows().await, [("bus-3".to_owned(), 2)]);
    assert_eq!(writer.gone().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeat_that_came_while_its_reading_was_erased_does_not_come_back_after_a_kill() {
    let mut writer = Writer::at_work(Duration::from_secs(3_600)).await;
    writer.publish("bus-1", 0).await;
    let gate = writer.store.gate();
    gate.close();
    let subject = Subject { tenant: "lamia".into(), device: Some("bus-1".into()) };
    let reports = writer.ingest.as_ref().unwrap().upkeep().erase(subject, false).unwrap();
    // The removal reads the file, and then whoever looks whether the reading came before.
    gate.arrived().await;
    writer.publish("bus-1", 0).await;
    gate.arrived().await;
    gate.open();
    let reports: Vec<_> = reports.collect().await;
    assert!(matches!(reports.last(), Some(Ok(Erasing::Done(_)))), "{reports:?}");
    writer.kill().await;
    writer.publish("bus-2", 1).await;
    writer.restart().await;
    assert_eq!(writer.rows().await, [("bus-2".to_owned(), 1)]);
    let letters = writer.lake().await.table("dead_letters").load().await.unwrap();
    assert!(letters.files().is_empty(), "{:?}", letters.files());
}
