//! Connections too many, and those that take another's name.

use std::time::Instant;

use super::{
    BOTH, TOPIC,
    site::{Client, PATIENCE, Site},
};

#[test]
fn connection_over_the_limit_is_told_why_and_a_place_that_is_left_is_taken() {
    let site = Site::with(|config| config.limits.connections = 3);
    let mut within: Vec<Client> = (0..3).map(|_| Client::connect(site.addr(), 4).0).collect();
    for client in &mut within {
        client.publish(1, TOPIC, b"within");
        client.acknowledged(1);
    }
    for (version, reason) in [(4, 3), (5, 0x97)] {
        let (mut refused, connack) = Client::connect_as(site.addr(), version, "one-too-many", 60);
        assert_eq!(connack[1], reason, "{connack:?}");
        assert!(refused.is_closed());
    }
    assert_eq!((site.metrics.turned_away.get(), site.metrics.connections.get()), (2, 3));
    assert!(within.iter_mut().all(Client::is_answered));
    within.pop();
    let began = Instant::now();
    while Client::connect_as(site.addr(), 4, "patient", 60).1[1] != 0 {
        assert!(began.elapsed() < PATIENCE);
    }
}

#[test]
fn silent_sessions_keep_nobody_out() {
    let site = Site::with(|config| {
        config.limits.connections = 4;
        config.workers = 1;
    });
    let mut silent: Vec<Client> = (0..4).map(|_| Client::connect(site.addr(), 5).0).collect();
    silent[3].publish(1, TOPIC, b"not so silent");
    silent[3].acknowledged(1);
    let mut honest = Vec::new();
    for silent in &mut silent[..3] {
        let (mut client, _) = Client::connect(site.addr(), 4);
        client.publish(1, TOPIC, b"honest");
        assert_eq!(client.acknowledged(1).0, 0);
        honest.push(client);
        assert_eq!(silent.receive().map(|(kind, body)| (kind, body[0])), Some((0xe0, 0x97)));
    }
    assert!(silent[3].is_answered());
}

#[test]
fn tenant_with_too_many_connections_loses_the_last_and_its_neighbour_none() {
    for (version, told) in [(4, None), (5, Some((0xe0, 0x97)))] {
        let site = Site::with(|config| config.limits.tenant_connections = 2);
        let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(site.addr(), version).0).collect();
        let neighbour = "city/v1/szeged/fleet/bus-1";
        for (client, topic) in clients.iter_mut().zip([TOPIC, TOPIC, neighbour, neighbour]) {
            client.publish(1, topic, b"within");
            assert_eq!(client.acknowledged(1).0, 0);
        }
        clients[4].publish(1, TOPIC, b"one too many");
        assert_eq!(clients[4].receive().map(|(kind, body)| (kind, body[0])), told);
        assert!(clients[4].is_closed());
        // Whoever leaves makes room.
        clients.remove(0);
        let began = Instant::now();
        loop {
            let (mut again, _) = Client::connect(site.addr(), version);
            again.publish(1, TOPIC, b"again");
            if again.receive().is_some_and(|(kind, _)| kind == 0x40) {
                break;
            }
            assert!(began.elapsed() < PATIENCE);
        }
        assert_eq!(site.close().len(), 5);
    }
}

#[test]
fn second_connection_of_a_client_id_ends_the_first() {
    let site = Site::open();
    for version in BOTH {
        // Several times, so that both are of one worker in some and of two in others.
        let (mut first, _) = Client::connect_as(site.addr(), version, "bus-1", 60);
        for _ in 0..6 {
            let (mut second, connack) = Client::connect_as(site.addr(), version, "bus-1", 60);
            assert_eq!(connack[1], 0);
            let told = first.receive().map(|(kind, body)| (kind, body[0]));
            assert_eq!(told, (version == 5).then_some((0xe0, 0x8e)));
            assert!(first.is_closed());
            second.publish(1, TOPIC, b"still here");
            assert_eq!(second.acknowledged(1).0, 0);
            first = second;
        }
        drop(first);
    }
    // Names of nobody are nobody's.
    let mut nameless: Vec<Client> = (0..3).map(|_| Client::connect_as(site.addr(), 5, "", 60).0).collect();
    assert!(nameless.iter_mut().all(Client::is_answered));
}

#[test]
fn name_that_is_too_long_is_refused() {
    let site = Site::open();
    for (version, reason) in [(4, 2), (5, 0x85)] {
        let (mut client, connack) = Client::connect_as(site.addr(), version, &"x".repeat(257), 60);
        assert_eq!(connack[1], reason);
        assert!(client.is_closed());
    }
}

#[test]
fn of_too_many_strangers_the_longest_silent_go_and_an_honest_one_is_served() {
    // 16 strangers at most; nobody is too slow with its introduction here.
    let site = Site::with(|config| {
        config.workers = 1;
        config.limits.connections = 64;
        config.handshake_seconds_max = 60;
    });
    // Whoever is served shows that those before it are known.
    let serve_an_honest_one = || {
        let (mut honest, _) = Client::connect(site.addr(), 4);
        honest.publish(1, TOPIC, b"honest");
        assert_eq!(honest.acknowledged(1).0, 0);
    };
    let mut first: Vec<Client> = (0..15).map(|_| Client::arrive(site.addr(), 4)).collect();
    serve_an_honest_one();
    assert_eq!(site.metrics.turned_away.get(), 0);
    let _second: Vec<Client> = (0..16).map(|_| Client::arrive(site.addr(), 4)).collect();
    assert!(first.iter_mut().all(Client::is_closed));
    // It is a stranger itself for a moment.
    serve_an_honest_one();
    assert_eq!(site.metrics.turned_away.get(), 16);
}
