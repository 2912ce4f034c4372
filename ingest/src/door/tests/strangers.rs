//! What is not MQTT, or bad MQTT, harms nobody but itself.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{
    BOTH,
    site::{Client, Site, packet},
};

#[test]
fn garbage_and_silence_close_their_own_connection_only() {
    let site = Site::open();
    let (mut client, _) = Client::connect(site.addr(), 4);
    let mut garbage = TcpStream::connect(site.addr()).expect("the door listens");
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").expect("open");
    let silent = TcpStream::connect(site.addr()).expect("the door listens");
    for (mut socket, seconds_max) in [(garbage, 1), (silent, 4)] {
        let began = Instant::now();
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        // Closed, with or without a reset.
        assert!(matches!(socket.read(&mut [0]), Ok(0) | Err(_)));
        assert!(began.elapsed() < Duration::from_secs(seconds_max));
    }
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
