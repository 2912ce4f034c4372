//! The subscriber against a real broker, with a journal that can be held up and a wire that can be cut.

mod broker;
mod proxy;

use std::{
    sync::{Mutex, atomic::AtomicBool},
    time::{Duration, Instant},
};

use rumqttc::v5::{
    Event,
    mqttbytes::{
        QoS,
        v5::{Packet, Publish},
    },
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpListener, time::timeout};
use zeugma_journal::{Journal, Payload};

use self::{
    broker::{Broker, free_port, publish, publish_bytes},
    proxy::{Proxy, Seen, read_packet},
};
use super::{gather::Ack, reception::FAREWELL_MAX, *};

const SOURCE: &str = "11111111-2222-3333-4444-555555555555";
const TOPIC: &str = "city/v1/lamia/fleet/bus-1";

/// A record as it lies in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    topic: String,
    bytes: Vec<u8>,
    cut: Option<(u64, [u8; 32])>,
}

/// A subscriber with a journal of its own.
struct House {
    _folder: TempDir,
    group: Group,
    kept: Arc<Mutex<Vec<Kept>>>,
    /// As long as this is set, the journal syncs nothing beyond the block that it has just synced.
    held: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    subscriber: Subscriber,
}

impl House {
    async fn open(url: &str) -> House {
        let house = House::open_away(url);
        wait_until("the broker is there", || house.subscriber.connected()).await;
        house
    }

    fn open_away(url: &str) -> House {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (journal, _) = Journal::open(folder.path()).expect("a new journal");
        let (kept, held) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (list, hold) = (kept.clone(), held.clone());
        let (group, _thread) = Group::start(journal, move |synced| {
            list.lock().expect("nobody panicked").extend(synced.records().map(|(_, record)| {
                let (bytes, cut) = match record.payload {
                    Payload::Whole(bytes) => (bytes, None),
                    Payload::Cut { kept, bytes, sha256 } => (kept, Some((bytes, sha256))),
                    Payload::Again { .. } => panic!("nothing comes again here"),
                };
                assert_eq!(record.tenant, None, "the topic names the tenant");
                Kept { topic: record.topic.to_owned(), bytes: bytes.to_owned(), cut }
            }));
            while hold.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            true
        })
        .expect("a thread");
        let (metrics, shutdown) = (Arc::new(Metrics::default()), CancellationToken::new());
        let config = Config::parse(url).expect("a good URL");
        let clock: Clock = Arc::new(|| 1_700_000_000_000_000);
        let subscriber = Subscriber::start(
            config,
            SOURCE,
            group.clone(),
            metrics.clone(),
            clock,
            Blocked::default(),
            shutdown.clone(),
        );
        House { _folder: folder, group, kept, held, metrics, shutdown, subscriber }
    }

    fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    fn kept(&self) -> Vec<Kept> {
        self.kept.lock().expect("nobody panicked").clone()
    }

    fn payloads(&self) -> Vec<String> {
        self.kept().into_iter().map(|kept| String::from_utf8(kept.bytes).expect("text")).collect()
    }

    async fn has_kept(&self, count: usize) {
        wait_until("all is kept", || self.kept.lock().expect("nobody panicked").len() >= count).await;
    }

    async fn has_received(&self, count: u64) {
        wait_until("all is received", || self.metrics.received.get() >= count).await;
    }

    async fn close(self) -> Result<(), Error> {
        self.shutdown.cancel();
        timeout(Duration::from_secs(8), self.subscriber.stopped()).await.expect("a farewell is short")
    }
}

async fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn url(port: u16) -> String {
    format!("mqtt://127.0.0.1:{port}/")
}

fn lines(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name} {number}")).collect()
}

/// Publishes without holding up the test's own tasks.
async fn publish_lines(port: u16, lines: &[String]) {
    let lines = lines.to_owned();
    tokio::task::spawn_blocking(move || publish(port, TOPIC, &lines)).await.expect("published");
}

#[tokio::test]
async fn publishes_reach_the_journal_in_order_and_are_acknowledged_once() {
    let broker = Broker::start();
    let house = House::open(&url(broker.port)).await;
    let sent = lines("reading", 3000);
    publish_lines(broker.port, &sent).await;
    house.has_kept(3000).await;
    assert_eq!(house.payloads(), sent);
    assert!(house.kept().iter().all(|kept| kept.topic == TOPIC && kept.cut.is_none()));
    let metrics = house.metrics.clone();
    house.close().await.expect("a clean end");
    assert_eq!(metrics.acknowledged.get(), 3000, "a farewell comes after all acknowledgements");
    assert_eq!((metrics.received.get(), metrics.synced.get(), metrics.refused.get()), (3000, 3000, 0));

    let again = House::open(&url(broker.port)).await;
    publish_lines(broker.port, &lines("later", 1)).await;
    again.has_kept(1).await;
    assert_eq!(again.payloads(), ["later 0"], "what was acknowledged does not come again");
}

#[tokio::test]
async fn broker_keeps_what_is_published_while_the_subscriber_is_away() {
    let broker = Broker::start();
    let house = House::open(&url(broker.port)).await;
    let start = Instant::now();
    house.close().await.expect("a clean end");
    assert!(start.elapsed() < FAREWELL_MAX, "the broker answers a farewell at once");
    publish_lines(broker.port, &lines("missed", 20)).await;
    let house = House::open(&url(broker.port)).await;
    house.has_kept(20).await;
    assert_eq!(house.payloads(), lines("missed", 20));
}

#[tokio::test]
async fn nothing_is_acknowledged_before_its_sync_and_all_of_it_comes_again() {
    let broker = Broker::start();
    let house = House::open(&url(broker.port)).await;
    house.hold(true);
    publish_lines(broker.port, &lines("synced", 1)).await;
    wait_until("the first is acknowledged", || house.metrics.acknowledged.get() == 1).await;
    publish_lines(broker.port, &lines("waiting", 50)).await;
    house.has_received(51).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((house.metrics.synced.get(), house.metrics.acknowledged.get()), (1, 1));
    house.close().await.expect("the farewell has an end though the journal has none");

    let house = House::open(&url(broker.port)).await;
    house.has_kept(50).await;
    assert_eq!(house.payloads(), lines("waiting", 50));
}

#[tokio::test]
async fn slow_journal_holds_back_the_broker() {
    let broker = Broker::start();
    let house = House::open(&url(broker.port)).await;
    house.hold(true);
    let sent = lines("reading", 20_000);
    publish_lines(broker.port, &sent).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let received = house.metrics.received.get();
    // What the journal has just synced, two batches that wait for it, and one more that gathers.
    assert!((4096..=4 * 4096).contains(&received), "{received}");
    house.hold(false);
    house.has_kept(20_000).await;
    assert_eq!(house.payloads(), sent);
    wait_until("all is acknowledged", || house.metrics.acknowledged.get() == 20_000).await;
}

#[tokio::test]
async fn subscriber_ends_with_the_journal_and_acknowledges_nothing_more() {
    let broker = Broker::start();
    let house = House::open(&url(broker.port)).await;
    house.group.close();
    publish_lines(broker.port, &lines("reading", 5)).await;
    let House { subscriber, metrics, .. } = house;
    wait_until("the task has ended", || !subscriber.connected()).await;
    let error = subscriber.stopped().await.expect_err("a subscriber without a journal");
    assert!(matches!(error, Error::Journal(zeugma_journal::Error::Closed)), "{error}");
    assert_eq!(metrics.acknowledged.get(), 0);

    let house = House::open(&url(broker.port)).await;
    house.has_kept(5).await;
    assert_eq!(house.payloads(), lines("reading", 5));
}

#[tokio::test]
async fn killed_broker_loses_nothing_that_it_kept() {
    let mut broker = Broker::start();
    let house = House::open(&url(broker.port)).await;
    house.hold(true);
    publish_lines(broker.port, &lines("synced", 1)).await;
    wait_until("the first is acknowledged", || house.metrics.acknowledged.get() == 1).await;
    publish_lines(broker.port, &lines("waiting", 40)).await;
    broker.save();
    broker.kill();
    wait_until("the outage is noticed", || !house.subscriber.connected()).await;
    house.hold(false);
    broker.restart();
    // What had come before the kill is there once; the broker, not acknowledged, sends all of it again.
    let before = house.metrics.received.get();
    assert!(before >= 1);
    house.has_received(before + 40).await;
    house.has_kept(before as usize + 40).await;
    assert_eq!(house.payloads()[before as usize..], lines("waiting", 40));
    wait_until("all is acknowledged", || house.metrics.acknowledged.get() == 41).await;
    publish_lines(broker.port, &lines("after", 1)).await;
    wait_until("life goes on", || house.payloads().contains(&"after 0".to_owned())).await;
}

#[tokio::test]
async fn broker_without_our_session_gets_our_subscription_again() {
    let mut broker = Broker::start();
    let house = House::open(&url(broker.port)).await;
    // Never saved, so the session is gone with the process.
    broker.kill();
    wait_until("the outage is noticed", || !house.subscriber.connected()).await;
    broker.restart();
    wait_until("the broker is back", || house.subscriber.connected()).await;
    publish_lines(broker.port, &lines("reading", 3)).await;
    house.has_kept(3).await;
    assert_eq!(house.payloads(), lines("reading", 3));
}

#[tokio::test]
async fn cut_connection_leaves_no_stale_acknowledgement_for_the_next() {
    let broker = Broker::start();
    let proxy = Proxy::start(broker.port).await;
    let house = House::open(&url(proxy.port)).await;
    house.hold(true);
    publish_lines(broker.port, &lines("synced", 1)).await;
    wait_until("the first is acknowledged", || house.metrics.acknowledged.get() == 1).await;
    publish_lines(broker.port, &lines("waiting", 200)).await;
    house.has_received(201).await;
    proxy.cut(true);
    wait_until("the cut is noticed", || !house.subscriber.connected()).await;
    // Their sync comes when their connection has gone.
    house.hold(false);
    wait_until("all is synced", || house.metrics.synced.get() == 201).await;
    proxy.cut(false);
    wait_until("all is acknowledged", || house.metrics.acknowledged.get() >= 201).await;
    house.close().await.expect("a clean end");

    let seen = proxy.seen();
    let acks = |connection: &[Seen]| connection.iter().filter(|seen| matches!(seen, Seen::Ack(_))).count();
    assert_eq!(acks(&seen[0]), 1, "only the synced one");
    let [.., last] = seen.as_slice() else { panic!("a second connection") };
    assert_eq!((last.len(), acks(last)), (400, 200), "each came again and was acknowledged once");
    let mut open = std::collections::VecDeque::new();
    for seen in last {
        match seen {
            Seen::Publish(pkid) => open.push_back(*pkid),
            Seen::Ack(pkid) => {
                assert_eq!(open.pop_front(), Some(*pkid), "in order of receipt, none from before")
            }
        }
    }
}

#[tokio::test]
async fn acknowledgements_inside_the_library_end_with_their_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let config = Config::parse(&url(listener.local_addr().expect("bound").port())).expect("a good URL");
    let (client, mut eventloop) =
        AsyncClient::new(options::options(&config, SOURCE).expect("good options"), options::REQUESTS_MAX);
    let metrics = Arc::new(Metrics::default());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (journal, _) = Journal::open(folder.path()).expect("a new journal");
    let (group, _thread) = Group::start(journal, |_| true).expect("a thread");
    let gather = Gather::new(config, group, metrics.clone(), Arc::new(|| 0), Blocked::default());
    let mut reception = Reception {
        client,
        gather,
        metrics: metrics.clone(),
        shutdown: CancellationToken::new(),
        connected: Arc::default(),
        address: String::new(),
        source: SOURCE.to_owned(),
        state: State::default(),
    };
    // Queued, and lost with the connection before the library could write them.
    let queued: Vec<Ack> = (1..=u16::MAX).map(|pkid| Ack { pkid, qos: QoS::AtLeastOnce }).collect();
    reception.acknowledge(&queued);
    // Read from the old connection, and not yet handed out.
    let publish = Publish { pkid: 7, qos: QoS::AtLeastOnce, topic: TOPIC.into(), ..Publish::default() };
    eventloop.state.events.push_back(Event::Incoming(Packet::Publish(publish)));
    reception.disconnected(&mut eventloop, "cut");
    let task = tokio::spawn(reception::run(eventloop, reception));

    let (mut wire, _) = listener.accept().await.expect("a connection");
    let (connect, _) = read_packet(&mut wire).await.expect("a packet");
    assert_eq!((connect[0], &connect[4..8], connect[8]), (0x10, &b"MQTT"[..], 5), "MQTT 5");
    assert_eq!(connect[9] & 0b10, 0, "clean start is off");
    wire.write_all(&[0x20, 3, 1, 0, 0]).await.expect("session present");
    let (subscribe, _) = read_packet(&mut wire).await.expect("a packet");
    assert_eq!(subscribe[0], 0x82);
    let next = timeout(Duration::from_millis(500), read_packet(&mut wire)).await;
    assert!(next.is_err(), "nothing was to be said, but {next:?}");
    assert_eq!(
        (metrics.synced.get(), metrics.acknowledged.get()),
        (1, 0),
        "the publish is kept all the same"
    );
    task.abort();
}

#[tokio::test]
async fn payload_over_the_limit_arrives_cut_and_holds_up_nothing() {
    let broker = Broker::start();
    let house = House::open(&url(broker.port)).await;
    let large: Vec<u8> = (0..300 * 1024u32).map(|number| (number % 251) as u8).collect();
    publish_bytes(broker.port, TOPIC, &large);
    publish_lines(broker.port, &lines("after", 1)).await;
    house.has_kept(2).await;
    let kept = house.kept();
    assert_eq!(kept[0].bytes, large[..4096]);
    assert_eq!(kept[0].cut, Some((300 * 1024, Sha256::digest(&large).into())));
    assert_eq!(kept[1].bytes, b"after 0");
    wait_until("both are acknowledged", || house.metrics.acknowledged.get() == 2).await;
}

#[tokio::test]
async fn foreign_tenant_is_acknowledged_and_not_kept() {
    let broker = Broker::start();
    let house = House::open(&format!("{}?tenants=lamia,volos", url(broker.port))).await;
    publish_bytes(broker.port, "city/v1/larissa/fleet/bus-1", b"foreign");
    wait_until("a batch of nothing is acknowledged", || house.metrics.acknowledged.get() == 1).await;
    publish_bytes(broker.port, "city/v1/volos/fleet/bus-1", b"ours");
    publish_bytes(broker.port, "city/v1/lamia/of/another/shape", b"odd");
    house.has_kept(2).await;
    let topics: Vec<String> = house.kept().into_iter().map(|kept| kept.topic).collect();
    assert_eq!(topics, ["city/v1/volos/fleet/bus-1", "city/v1/lamia/of/another/shape"]);
    let metrics = house.metrics.clone();
    house.close().await.expect("a clean end");
    assert_eq!((metrics.refused.get(), metrics.synced.get(), metrics.acknowledged.get()), (1, 2, 3));
}

#[tokio::test]
async fn broker_may_come_later_and_a_shutdown_does_not_wait_for_it() {
    let house = House::open_away(&url(free_port()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!house.subscriber.connected());
    let start = Instant::now();
    house.close().await.expect("a clean end");
    assert!(start.elapsed() < FAREWELL_MAX, "nobody is there to say goodbye to");
}
