//! A real broker for tests: mosquitto on a free port of this machine, with a folder of its own.

use std::{
    io::{ErrorKind, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

const INSTALL: &str = "this test needs a broker: apt-get install -y mosquitto mosquitto-clients";

/// A broker that runs until dropped; restarted, it has the same port and folder.
pub struct Broker {
    /// Where it listens.
    pub port: u16,
    folder: TempDir,
    process: Child,
}

impl Broker {
    /// Starts one.
    pub fn start() -> Broker {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let process = launch(folder.path(), port);
        Broker { port, folder, process }
    }

    /// Lets it write down its sessions and what waits in them.
    pub fn save(&self) {
        let store = self.folder.path().join("mosquitto.db");
        let _ = std::fs::remove_file(&store);
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-USR1", &id]).status().expect("kill is there").success());
        let start = Instant::now();
        while !store.exists() {
            assert!(start.elapsed() < Duration::from_secs(10), "the broker did not save");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it without a chance to save anything.
    pub fn kill(&mut self) {
        self.process.kill().expect("the broker runs");
        self.process.wait().expect("a killed broker ends");
    }

    /// Starts it again after [`Broker::kill`].
    pub fn restart(&mut self) {
        self.process = launch(self.folder.path(), self.port);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that nobody uses.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound port").port()
}

/// Publishes each line with QoS 1, in order, and waits until the broker has all.
pub fn publish(port: u16, topic: &str, lines: &[String]) {
    feed(port, &["-t", topic, "-q", "1", "-l"], (lines.join("\n") + "\n").as_bytes());
}

/// Publishes one payload with QoS 1 and waits until the broker has it.
pub fn publish_bytes(port: u16, topic: &str, payload: &[u8]) {
    feed(port, &["-t", topic, "-q", "1", "-s"], payload);
}

fn feed(port: u16, args: &[&str], input: &[u8]) {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-V", "mqttv5", "-p", &port.to_string()]).args(args);
    let mut process = command.stdin(Stdio::piped()).spawn().expect(INSTALL);
    process.stdin.take().expect("a pipe").write_all(input).expect("mosquitto_pub reads");
    assert!(process.wait().expect("mosquitto_pub ends").success(), "mosquitto_pub failed");
}

fn launch(folder: &Path, port: u16) -> Child {
    // As root the broker would change to a user who may not write into the folder.
    let config = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n\
         persistence_location {}/\nmax_inflight_messages 0\nmax_queued_messages 0\n",
        folder.display()
    );
    let path = folder.join("mosquitto.conf");
    std::fs::write(&path, config).expect("the folder is writable");
    let mut process = ["mosquitto", "/usr/sbin/mosquitto"]
        .iter()
        .find_map(|program| match Command::new(program).arg("-c").arg(&path).stderr(Stdio::null()).spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            result => Some(result.expect("the broker starts")),
        })
        .expect(INSTALL);
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(process.try_wait().expect("a child").is_none(), "the broker ended at once");
        assert!(start.elapsed() < Duration::from_secs(10), "the broker does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    process
}
