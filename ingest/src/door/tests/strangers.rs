//! What is not MQTT, or bad MQTT, harms nobody but itself.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use super::{
    BOTH, TOPIC,
    site::{Client, Site, packet},
};

#[test]
fn garbage_closes_its_own_connection_only_and_at_once() {
    // Longer than the test waits: it is not the silence afterwards that closes it.
    let site = Site::with(|config| config.handshake_seconds_max = 60);
    let (mut client, _) = Client::connect(site.addr(), 4);
    let mut garbage = Client::arrive(site.addr(), 4);
    garbage.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n");
    assert!(garbage.is_closed());
    assert!(client.is_answered());
    assert_eq!(site.metrics.connections.get(), 1);
}

#[test]
fn silence_closes_its_own_connection_only() {
    let site = Site::open();
    let (mut client, _) = Client::connect(site.addr(), 4);
    assert!(Client::arrive(site.addr(), 4).is_closed());
    assert!(client.is_answered());
    assert_eq!(site.metrics.connections.get(), 1);
}

#[test]
fn packet_that_contradicts_itself_closes_its_own_connection_only() {
    let site = Site::open();
    for version in BOTH {
        let (mut other, _) = Client::connect(site.addr(), version);
        let (mut client, _) = Client::connect(site.addr(), version);
        // A topic longer than the packet it stands in, with enough behind it to be taken for one.
        client.send(&packet(0x32, &[0, 200, b'x']));
        let _ = client.socket.write_all(&[b'x'; 400]);
        while client.receive().is_some() {}
        assert!(other.is_answered());
    }
    assert!(site.close().is_empty());
}

#[test]
fn large_packet_that_is_no_publish_is_refused_by_its_first_bytes() {
    let site = Site::open();
    for version in BOTH {
        let (mut client, _) = Client::connect(site.addr(), version);
        client.publish(1, TOPIC, b"before");
        assert_eq!(client.acknowledged(1).0, 0);
        // A SUBSCRIBE that says it has 256 MiB, of which 20 bytes come.
        client.send(&[&[0x82, 0xff, 0xff, 0xff, 0x7f][..], &[0; 20]].concat());
        let told = client.receive().map(|(kind, body)| (kind, body[0]));
        assert_eq!(told, (version == 5).then_some((0xe0, 0x95)));
        assert!(client.is_closed());
        // The same as a first packet.
        let mut stranger = Client::arrive(site.addr(), version);
        stranger.send(&[0x10, 0xff, 0xff, 0xff, 0x7f, 0, 4, b'M', b'Q', b'T', b'T', version]);
        assert!(stranger.is_closed());
    }
    assert_eq!(site.close().len(), 2);
}

#[test]
fn topic_or_properties_without_an_end_close_the_connection() {
    let site = Site::open();
    let (mut client, _) = Client::connect(site.addr(), 4);
    client.publish(1, &"x".repeat(1_024), b"kept: a malformed topic");
    assert_eq!(client.acknowledged(1).0, 0);
    let _ = client.socket.write_all(&client.publish_bytes(2, &"x".repeat(1_025), b"too long"));
    assert!(client.is_closed());
    let (mut client, _) = Client::connect(site.addr(), 5);
    // 200,000 bytes of properties are said to come, and 40,000 do.
    let mut body = [&[0, 1, b'x', 0, 1, 0xc0, 0x9a, 0x0c][..], &[0x26; 40_000]].concat();
    let whole = packet(0x32, &vec![0; 200_010]);
    body.splice(0..0, whole[..4].iter().copied());
    let _ = client.socket.write_all(&body);
    assert!(client.is_closed());
    assert_eq!(site.close().len(), 1);
}

#[test]
fn publish_to_a_filter_is_a_protocol_error() {
    let site = Site::open();
    for (version, topic) in
        [(4, "city/v1/#"), (5, "city/v1/#"), (4, "city/v1/+/fleet/x"), (5, "city/v1/+/fleet/x")]
    {
        let (mut client, _) = Client::connect(site.addr(), version);
        client.publish(1, topic, b"everywhere");
        let told = client.receive().map(|(kind, _)| kind);
        assert_eq!(told, (version == 5).then_some(0xe0));
        assert!(client.is_closed());
    }
    assert!(site.close().is_empty());
}

#[test]
fn whoever_is_silent_for_half_as_long_again_as_its_keep_alive_is_closed() {
    let site = Site::open();
    for (version, told) in [(4, None), (5, Some((0xe0, 0x8d)))] {
        let (mut client, _) = Client::connect_as(site.addr(), version, "sleepy", 2);
        let began = Instant::now();
        assert_eq!(client.receive().map(|(kind, body)| (kind, body[0])), told);
        assert!(client.is_closed());
        assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

#[test]
fn whoever_never_releases_what_it_published_is_closed() {
    let site = Site::open();
    let (mut client, _) = Client::connect(site.addr(), 4);
    for id in 1..=1_001 {
        let mut bytes = client.publish_bytes(id, TOPIC, b"");
        bytes[0] = 0x34;
        client.send(&bytes);
    }
    let received = std::iter::from_fn(|| client.receive()).filter(|(kind, _)| *kind == 0x50).count();
    assert!(received <= 1_000, "{received}");
    assert!(client.is_closed());
}
