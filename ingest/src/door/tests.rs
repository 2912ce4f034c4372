//! What clients of either version are told, and what the journal holds afterwards.

mod fair;
mod full;
pub(super) mod site;
mod strangers;

use std::{
    collections::HashMap,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rumqttc::{Event, MqttOptions, Packet, QoS};
use sha2::{Digest, Sha256};
use site::{Client, PATIENCE, Site, packet};
use zeugma_lake::{gone::Subject, priority::Priority};
use zeugma_schemas::limits::{KEPT_OF_TOO_LARGE_BYTES, PAYLOAD_BYTES_MAX};

const TOPIC: &str = "city/v1/lamia/fleet/bus-1";
const BOTH: [u8; 2] = [4, 5];

#[test]
fn puback_leaves_after_the_record_is_on_disk() {
    let site = Site::open();
    for version in BOTH {
        let (mut client, _) = Client::connect(site.addr(), version);
        for id in 1..=20 {
            let payload = format!("payload {id} of a client of version {version}");
            client.publish(id, TOPIC, payload.as_bytes());
            assert_eq!(client.acknowledged(id).0, 0);
            assert!(site.is_on_disk(payload.as_bytes()));
        }
    }
    assert_eq!((site.metrics.synced.get(), site.metrics.acknowledged.get()), (40, 40));
    let rows = site.close();
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().all(|row| row.topic == TOPIC && row.cut.is_none()));
}

#[test]
fn first_connections_of_a_door_are_dealt_to_all_its_workers_beside_other_work() {
    let _others = Others::start();
    for workers in [1, 2, 4].repeat(4) {
        let site = Site::with(|config| config.workers = workers);
        let mut clients = Vec::from_iter((0..workers * 2).map(|_| Client::connect(site.addr(), 4).0));
        let met = clients.iter_mut().map(|client| {
            client.publish(1, TOPIC, b"here");
            client.acknowledged(1);
            site.last_worker()
        });
        let mut met_by = HashMap::new();
        met.for_each(|worker| *met_by.entry(worker).or_insert(0) += 1);
        assert_eq!(Vec::from_iter(met_by.into_values()), vec![2; workers]);
        site.close();
    }
}

/// Threads that take what processors are left, so that others begin late; until dropped.
struct Others(Arc<AtomicBool>);

impl Others {
    fn start() -> Others {
        let others = Others(Arc::default());
        for _ in 0..=std::thread::available_parallelism().expect("a number").get() {
            let ended = others.0.clone();
            std::thread::spawn(move || {
                Priority::Later.take();
                while !ended.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        others
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn door_without_workers_has_one() {
    let site = Site::with(|config| config.workers = 0);
    Client::connect(site.addr(), 4);
    site.close();
}

#[test]
fn without_a_sync_there_is_no_puback() {
    let site = Site::open();
    site.stuck.store(true, Ordering::SeqCst);
    let (mut client, _) = Client::connect(site.addr(), 4);
    // The journal tells of its first block before it is stuck.
    client.publish(1, TOPIC, b"first");
    client.acknowledged(1);
    client.publish(2, TOPIC, b"second");
    client.socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    assert_eq!(client.receive(), None);
    site.stuck.store(false, Ordering::SeqCst);
    client.socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client.acknowledged(2);
}

#[test]
fn a_journal_that_is_closed_closes_the_connection_without_a_puback() {
    for version in BOTH {
        let site = Site::open();
        site.group.close();
        let (mut client, _) = Client::connect(site.addr(), version);
        client.publish(1, TOPIC, b"never kept");
        // MQTT 5 is told why.
        let told = client.receive().map(|(kind, _)| kind);
        assert_eq!(told, (version == 5).then_some(0xe0));
        assert_eq!(client.receive(), None);
        assert_eq!(site.metrics.acknowledged.get(), 0);
    }
}

#[test]
fn whoever_publishes_and_leaves_has_published() {
    let site = Site::open();
    for version in BOTH.repeat(20) {
        let (mut client, _) = Client::connect(site.addr(), version);
        let one = client.publish_bytes(0, TOPIC, b"goodbye");
        client.send(&[one.as_slice(), &one, &one, &[0xe0, 0]].concat());
    }
    let began = Instant::now();
    while site.metrics.synced.get() < 120 && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(site.close().len(), 120);
}

#[test]
fn malformed_topic_is_kept_for_3_and_refused_for_5() {
    let site = Site::open();
    let (mut old, _) = Client::connect(site.addr(), 4);
    old.publish(7, "somewhere/else", b"old");
    assert_eq!(old.acknowledged(7).0, 0);
    let (mut new, _) = Client::connect(site.addr(), 5);
    new.publish(8, "somewhere/else", b"new");
    let (reason, text) = new.acknowledged(8);
    assert_eq!(reason, 0x90);
    assert!(text.contains("city/v1/{tenant}/{domain}/{device}"), "{text}");
    assert!(old.is_answered() && new.is_answered());
    assert_eq!(site.metrics.refused.get(), 1);
    let rows = site.close();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].topic.as_str(), rows[0].bytes.as_slice()), ("somewhere/else", &b"old"[..]));
}

#[test]
fn what_is_blocked_is_let_fall_for_3_and_refused_for_5() {
    let site = Site::with(|config| {
        let subject = Subject { tenant: "lamia".into(), device: Some("bus-1".into()) };
        config.blocked.set([subject].into());
    });
    for (version, wanted) in [(4, 0), (5, 0x87)] {
        let (mut client, _) = Client::connect(site.addr(), version);
        client.publish(1, TOPIC, b"not wanted");
        assert_eq!(client.acknowledged(1).0, wanted);
        client.publish(2, TOPIC, &vec![7; PAYLOAD_BYTES_MAX + 1]);
        assert_eq!(client.acknowledged(2).0, wanted);
        client.publish(3, "city/v1/lamia/fleet/bus-2", b"wanted");
        assert_eq!(client.acknowledged(3).0, 0);
        assert!(client.is_answered());
    }
    assert_eq!(site.metrics.refused.get(), 4);
    let rows = site.close();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.bytes == b"wanted"));
}

#[test]
fn too_large_payload_is_cut_for_3_and_refused_for_5() {
    let site = Site::open();
    let payload: Vec<u8> = (0..300 * 1024u32).map(|at| (at % 251) as u8).collect();
    let (mut old, _) = Client::connect(site.addr(), 4);
    old.publish(1, TOPIC, &payload);
    assert_eq!(old.acknowledged(1).0, 0);
    let (mut new, _) = Client::connect(site.addr(), 5);
    new.publish(1, TOPIC, &payload);
    let (reason, text) = new.acknowledged(1);
    assert_eq!(reason, 0x97);
    assert!(text.contains("307200"), "{text}");
    assert!(old.is_answered() && new.is_answered());
    let rows = site.close();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].bytes, payload[..KEPT_OF_TOO_LARGE_BYTES]);
    assert_eq!(rows[0].cut, Some((payload.len() as u64, Sha256::digest(&payload).into())));
}

#[test]
fn largest_payload_is_kept_whole() {
    let site = Site::open();
    let payload: Vec<u8> = (0..PAYLOAD_BYTES_MAX).map(|at| (at % 241) as u8).collect();
    for version in BOTH {
        let (mut client, _) = Client::connect(site.addr(), version);
        client.publish(1, TOPIC, &payload);
        assert_eq!(client.acknowledged(1).0, 0);
    }
    assert!(site.close().iter().all(|row| row.bytes == payload && row.cut.is_none()));
}

#[test]
fn packet_over_the_announced_maximum_is_told_so() {
    let site = Site::open();
    let (mut client, connack) = Client::connect(site.addr(), 5);
    // Property 0x27 is the Maximum Packet Size: 256 KiB + 1 KiB + 64 KiB.
    assert!(connack.windows(5).any(|window| window == [0x27, 0, 5, 4, 0]), "{connack:?}");
    let _ = client.socket.write_all(&client.publish_bytes(1, TOPIC, &vec![0; 400 * 1024]));
    let (kind, body) = client.receive().expect("a DISCONNECT");
    assert_eq!((kind, body[0]), (0xe0, 0x95));
}

#[test]
fn subscribe_is_refused_and_the_connection_stays() {
    let site = Site::open();
    for (version, code) in [(4, 0x80), (5, 0x87)] {
        let (mut client, _) = Client::connect(site.addr(), version);
        let properties: &[u8] = if version == 5 { &[0] } else { &[] };
        client.send(&packet(0x82, &[&[0, 9], properties, &[0, 1, b'#', 0]].concat()));
        let (kind, body) = client.receive().expect("a SUBACK");
        assert_eq!((kind, body.last()), (0x90, Some(&code)));
        client.send(&packet(0xa2, &[&[0, 10], properties, &[0, 1, b'#']].concat()));
        assert_eq!(client.receive().expect("an UNSUBACK").0, 0xb0);
        assert!(client.is_answered());
    }
}

#[test]
fn payload_in_pieces_keeps_its_place() {
    let site = Site::open();
    let (mut client, _) = Client::connect(site.addr(), 4);
    for round in 0..50u16 {
        let mut bytes = client.publish_bytes(round * 4 + 1, TOPIC, &vec![1; 9_000]);
        let cut = 30 + usize::from(round) * 170;
        for id in 2..=4 {
            bytes.extend(client.publish_bytes(round * 4 + id, TOPIC, &[id as u8]));
        }
        client.send(&bytes[..cut]);
        std::thread::sleep(Duration::from_millis(2));
        client.send(&bytes[cut..]);
        (1..=4).for_each(|id| assert_eq!(client.acknowledged(round * 4 + id).0, 0));
    }
    let order: Vec<u8> = site.close().iter().map(|row| row.bytes[0]).collect();
    assert_eq!(order, [1, 2, 3, 4].repeat(50));
}

#[test]
fn ten_connections_of_a_thousand_publishes_keep_their_order() {
    let site = Site::open();
    let addr = site.addr();
    std::thread::scope(|scope| {
        for number in 0..10u16 {
            scope.spawn(move || {
                let (mut client, _) = Client::connect(addr, BOTH[usize::from(number % 2)]);
                let topic = format!("city/v1/lamia/fleet/{number}");
                let each = |id: u16| client.publish_bytes(id, &topic, &id.to_be_bytes());
                let all: Vec<u8> = (1..=1_000).flat_map(each).collect();
                client.send(&all);
                (1..=1_000).for_each(|id| assert_eq!(client.acknowledged(id).0, 0));
            });
        }
    });
    let rows = site.close();
    for number in 0..10 {
        let topic = format!("city/v1/lamia/fleet/{number}");
        let kept = rows.iter().filter(|row| row.topic == topic).map(|row| row.bytes.clone());
        assert!(kept.eq((1..=1_000u16).map(|id| id.to_be_bytes().to_vec())), "{number}");
    }
}

#[test]
fn stopping_acknowledges_what_was_taken_and_says_goodbye() {
    let site = Site::open();
    let (mut client, _) = Client::connect(site.addr(), 5);
    site.stuck.store(true, Ordering::SeqCst);
    client.publish(1, TOPIC, b"first");
    client.acknowledged(1);
    client.publish(2, TOPIC, b"taken before the end");
    while site.metrics.received.get() < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let stuck = site.stuck.clone();
    let freed = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        stuck.store(false, Ordering::SeqCst);
    });
    assert_eq!(site.close().len(), 2);
    freed.join().expect("no panic");
    assert_eq!(client.acknowledged(2).0, 0);
    assert_eq!(client.receive().map(|(kind, body)| (kind, body[0])), Some((0xe0, 0x8b)));
    assert_eq!(client.receive(), None);
}

#[tokio::test]
async fn a_client_library_is_acknowledged() {
    let site = Site::open();
    let mut options = MqttOptions::new("bus-1", "127.0.0.1", site.addr().port());
    options.set_keep_alive(Duration::from_secs(5));
    let (client, mut events) = rumqttc::AsyncClient::new(options, 100);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        client.publish(TOPIC, qos, false, "reading").await.expect("room in the queue");
    }
    let (mut acknowledged, mut completed) = (false, false);
    while !(acknowledged && completed) {
        match events.poll().await.expect("the connection stays") {
            Event::Incoming(Packet::PubAck(_)) => acknowledged = true,
            Event::Incoming(Packet::PubComp(_)) => completed = true,
            _ => {}
        }
    }
    let rows = tokio::task::spawn_blocking(|| site.close()).await.expect("no panic");
    assert_eq!(rows.len(), 3);
}
