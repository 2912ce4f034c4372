//! A tenant over a limit is slowed, and its neighbour is not.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    super::limits::UNREAD_BYTES_MAX,
    BOTH,
    site::{Client, PATIENCE, Site},
};

const LIMITED: &str = "city/v1/lamia/fleet/bus-1";
const NEIGHBOUR: &str = "city/v1/szeged/fleet/bus-1";

/// As a PUBLISH, with its header and topic.
const PUBLISH_BYTES: usize = 133;
const PAYLOAD: &[u8] = &[7; 100];
const LONG: &[u8] = &[7; 4_000];

/// By how much a connection may pass a limit: packets that were read at once are taken together.
const READ_TOGETHER: usize = UNREAD_BYTES_MAX;

/// Sends this many publishes on a connection that need not be read meanwhile.
fn publish_all(client: &Client, topic: &str, payload: &[u8], count: u16) -> std::thread::JoinHandle<()> {
    let all: Vec<u8> = (1..=count).flat_map(|id| client.publish_bytes(id, topic, payload)).collect();
    let mut socket = client.socket.try_clone().expect("another handle");
    std::thread::spawn(move || std::io::Write::write_all(&mut socket, &all).expect("taken in the end"))
}

#[test]
fn tenant_over_its_rate_waits_and_its_neighbour_does_not() {
    // 2,000 publishes a second, for as long as the clock stands still.
    let site = Site::with(|config| {
        config.limits.tenant_rate_bytes = 2_000 * PUBLISH_BYTES as u64;
        // They come without waiting for an acknowledgement: an MQTT 5 client that sends more than was agreed
        // is disconnected.
        config.in_flight_max = 3_000;
    });
    for version in BOTH {
        let (mut limited, _) = Client::connect(site.addr(), version);
        let (mut neighbour, _) = Client::connect(site.addr(), version);
        let slowed = site.metrics.slowed.get();
        let over = publish_all(&limited, LIMITED, PAYLOAD, 3_000);
        let within = publish_all(&neighbour, NEIGHBOUR, PAYLOAD, 1_000);
        (1..=1_000).for_each(|id| assert_eq!(neighbour.acknowledged(id).0, 0));
        let deadline = Instant::now() + PATIENCE;
        while site.metrics.slowed.get() == slowed {
            assert!(Instant::now() < deadline, "nothing slows it");
            std::thread::sleep(Duration::from_millis(5));
        }
        let before = limited.count_acknowledged(&site);
        // MQTT 5 adds a byte to each.
        let at_most = 2_001 + READ_TOGETHER / PUBLISH_BYTES;
        assert!((1_900..=at_most).contains(&before), "{before}");
        // It stays so until time goes on, and then loses nothing.
        assert_eq!(limited.count_acknowledged(&site), 0);
        site.now_us.fetch_add(10_000_000, Ordering::SeqCst);
        (before + 1..=3_000).for_each(|id| assert_eq!(limited.acknowledged(id as u16).0, 0));
        over.join().expect("no panic");
        within.join().expect("no panic");
        site.now_us.fetch_add(10_000_000, Ordering::SeqCst);
    }
    assert_eq!(site.close().len(), 8_000);
}

#[test]
fn connection_that_speaks_for_several_is_slowed_by_the_slowest() {
    let site = Site::with(|config| config.limits.tenant_rate_bytes = 10 * PUBLISH_BYTES as u64);
    let (mut gateway, _) = Client::connect(site.addr(), 4);
    for id in 1..=12 {
        gateway.publish(id, LIMITED, PAYLOAD);
    }
    // What was read at once was taken; nothing more is, whoever it is of.
    assert!((10..=12).contains(&gateway.count_acknowledged(&site)));
    (13..=200).for_each(|id| gateway.publish(id, NEIGHBOUR, PAYLOAD));
    assert_eq!(gateway.count_acknowledged(&site), 0);
    let (mut neighbour, _) = Client::connect(site.addr(), 4);
    neighbour.publish(1, NEIGHBOUR, PAYLOAD);
    neighbour.acknowledged(1);
}

#[test]
fn everybody_waits_in_turn_where_the_rate_of_all_is_used_up() {
    const EACH: u16 = 1_000;
    let site = Site::with(|config| {
        config.limits.rate_bytes = 1_000 * PUBLISH_BYTES as u64;
        // Between threads it is the system's scheduler that says who comes first.
        config.workers = 1;
    });
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(site.addr(), 4).0).collect();
    let sent: Vec<_> = clients.iter().map(|client| publish_all(client, LIMITED, PAYLOAD, EACH)).collect();
    let mut seconds = 0;
    while received_in_the_end(&site) < 5_000 {
        site.now_us.fetch_add(1_000_000, Ordering::SeqCst);
        seconds += 1;
    }
    let mut counts: Vec<_> = clients.iter_mut().map(|client| client.count_acknowledged(&site)).collect();
    // The first second's worth goes to whoever comes first; the rest goes round, one read after the other.
    let at_least = (5_000 - 1_000) / 10 - 2 * READ_TOGETHER / PUBLISH_BYTES;
    assert!(counts.iter().all(|count| *count >= at_least), "{counts:?}");
    while received_in_the_end(&site) < 10_000 {
        site.now_us.fetch_add(1_000_000, Ordering::SeqCst);
        seconds += 1;
        assert!(seconds < 200, "it goes on");
    }
    counts
        .iter_mut()
        .zip(&mut clients)
        .for_each(|(count, client)| *count += client.count_acknowledged(&site));
    assert_eq!(counts, [usize::from(EACH); 10]);
    // All but a second's worth, and what was read at once by each.
    let at_least = (10_000 - 1_000 - 10 * READ_TOGETHER / PUBLISH_BYTES) / 1_000;
    assert!(seconds >= at_least, "{seconds} s");
    sent.into_iter().for_each(|sent| sent.join().expect("no panic"));
}

/// How many payloads have been received when no more come while the clock stands still.
fn received_in_the_end(site: &Site) -> u64 {
    let mut before = site.metrics.received.get();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = site.metrics.received.get();
        if now == before {
            return now;
        }
        before = now;
    }
}

#[test]
fn bytes_in_flight_of_one_tenant_are_bounded_and_its_neighbours_are_taken() {
    let site = Site::with(|config| config.limits.tenant_in_flight_bytes = 40 * LONG.len());
    let [mut one, mut other, mut neighbour] = [(); 3].map(|()| Client::connect(site.addr(), 4).0);
    site.stuck.store(true, Ordering::SeqCst);
    // The journal tells of its first block before it is stuck.
    neighbour.publish(1, NEIGHBOUR, PAYLOAD);
    neighbour.acknowledged(1);
    let sent = [publish_all(&one, LIMITED, LONG, 100), publish_all(&other, LIMITED, LONG, 100)];
    let sent_too = publish_all(&neighbour, NEIGHBOUR, LONG, 30);
    assert_eq!(
        one.count_acknowledged(&site) + other.count_acknowledged(&site) + neighbour.count_acknowledged(&site),
        0
    );
    let (received, together) = (site.metrics.received.get() as usize, 1 + READ_TOGETHER / LONG.len());
    assert!((70..=71 + 2 * together).contains(&received), "{received}");
    site.stuck.store(false, Ordering::SeqCst);
    for (client, count) in [(&mut one, 100), (&mut other, 100), (&mut neighbour, 30)] {
        (1..=count).for_each(|id| assert_eq!(client.acknowledged(id).0, 0));
    }
    sent.into_iter().chain([sent_too]).for_each(|sent| sent.join().expect("no panic"));
    assert_eq!(site.close().len(), 231);
}

#[test]
fn payloads_that_come_slowly_fill_their_own_room_only_and_are_given_up() {
    let site = Site::with(|config| {
        config.limits.tenant_large_bytes = 250_000;
        config.limits.payload_seconds = 2;
    });
    let payload = vec![3; 100_000];
    let mut slow: Vec<Client> = (0..4).map(|_| Client::connect(site.addr(), 4).0).collect();
    for client in &mut slow {
        let bytes = client.publish_bytes(1, LIMITED, &payload);
        client.send(&bytes[..30_000]);
    }
    // Small ones of the same tenant, and large ones of another, pass.
    let [mut small, mut neighbour] = [(); 2].map(|()| Client::connect(site.addr(), 5).0);
    small.publish(1, LIMITED, PAYLOAD);
    assert_eq!(small.acknowledged(1).0, 0);
    neighbour.publish(1, NEIGHBOUR, &payload);
    assert_eq!(neighbour.acknowledged(1).0, 0);
    // There is room for two of them at once; each is given up in its time, and then an honest one passes.
    let (mut honest, _) = Client::connect(site.addr(), 4);
    honest.publish(1, LIMITED, &payload);
    assert_eq!(honest.acknowledged(1).0, 0);
    assert!(slow.iter_mut().all(Client::is_closed));
    assert_eq!(site.close().len(), 3);
}
