//! What systemd is told by the real binary.

use std::{os::unix::net::UnixDatagram, time::Duration};

use zeugma_tests::city::PATIENCE;

use super::Place;

/// The next thing told that says this.
fn told(socket: &UnixDatagram, what: &str) -> String {
    let mut buffer = [0; 4096];
    loop {
        let len = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{what} was not told: {error}"));
        let text = String::from_utf8(buffer[..len].to_vec()).unwrap();
        assert!(!text.contains("STOPPING=1") || what == "STOPPING=1", "it stops: {text}");
        if text.lines().any(|line| line == what) {
            return text;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_of_open_doors_of_work_and_of_the_end() {
    let place = Place::new();
    let path = place.folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let program = place.up(&[], |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000").env_remove("WATCHDOG_PID");
    });
    told(&socket, "READY=1");
    for door in [place.mqtt, place.http] {
        std::net::TcpStream::connect(door).expect("ready means that the doors are open");
    }
    zeugma_tests::Device::connect(place.mqtt).await.publish(super::BUS, super::bus_at(1)).await.unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while !told(&socket, "WATCHDOG=1").contains("1 payloads acknowledged") {
        assert!(std::time::Instant::now() < deadline, "the status does not say what was acknowledged");
    }
    program.signal("TERM");
    assert!(told(&socket, "STOPPING=1").contains("STATUS=stopping"));
    assert!(program.ended_within(Duration::from_secs(10)).success());
}

#[test]
fn unit_says_what_the_program_can() {
    let unit = include_str!("../../../docs/operate/zeugma.service");
    for line in ["Type=notify", "Restart=on-failure", "StateDirectory=zeugma", "LimitNOFILE=65536"] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    let seconds = |name: &str| -> u64 {
        let value = unit.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        value.trim_end_matches('s').parse().expect("seconds")
    };
    // Ten seconds for a stop, and a little for a machine that is busy.
    assert!(seconds("TimeoutStopSec=") > 10);
    assert!(seconds("WatchdogSec=") >= 10, "a bad disk may take seconds for one sync");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let args = command.split_whitespace().map(Into::into);
    let parsed = zeugma::cli::parse(args).map_err(|ended| format!("{ended:?}"));
    assert!(matches!(parsed.expect(command).command, zeugma::cli::Command::Up(_)));
}
