//! Other people's programs that must get on with ours. A missing one fails its test and says how to get it.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{city::PATIENCE, program::free_port};

/// What most tests want of a broker: nothing is dropped, nothing throttled, sessions outlive it.
const KEEPS_ALL: &str = "persistence true\nmax_inflight_messages 0\nmax_queued_messages 0\n";

/// A mosquitto broker on a free port.
pub struct Mosquitto {
    child: Child,
    addr: SocketAddr,
    folder: TempDir,
}

impl Mosquitto {
    /// Starts one that keeps all there is.
    pub fn start() -> Mosquitto {
        Self::with(KEEPS_ALL)
    }

    /// Starts one with these lines in its configuration; paths in them are whole.
    pub fn with(settings: &str) -> Mosquitto {
        let (folder, addr) = (tempfile::tempdir().expect("a temporary folder"), free_port());
        // As root it would change to a user who may not write into the folder.
        let config = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\nuser root\npersistence_location {}/\n{settings}",
            addr.port(),
            folder.path().display()
        );
        std::fs::write(folder.path().join("mosquitto.conf"), config).expect("a configuration");
        let child = Self::spawn(folder.path());
        let broker = Mosquitto { child, addr, folder };
        broker.wait();
        broker
    }

    fn spawn(folder: &Path) -> Child {
        Command::new(program("mosquitto", "apt-get install -y mosquitto"))
            .arg("-c")
            .arg(folder.join("mosquitto.conf"))
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto runs")
    }

    fn wait(&self) {
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(self.addr).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts one that keeps all there is, and at the second address listens for devices that hold a key, as the
    /// operator's page says. Of each: its identity, the key in hexadecimal, and where it may publish.
    pub fn with_keys(devices: &[(&str, &str, &str)]) -> (Mosquitto, SocketAddr) {
        let folder = tempfile::tempdir().expect("a folder");
        let (keys, acl) = (folder.path().join("keys"), folder.path().join("acl"));
        let lines: String = devices.iter().map(|(identity, key, _)| format!("{identity}:{key}\n")).collect();
        std::fs::write(&keys, lines).expect("the keys");
        let rights = devices.iter().map(|(user, _, topic)| format!("user {user}\ntopic write {topic}\n"));
        let rights = ["topic read city/v1/#\n".to_owned()].into_iter().chain(rights);
        std::fs::write(&acl, rights.collect::<String>()).expect("the rights");
        let addr = free_port();
        let settings = format!(
            "{KEEPS_ALL}listener {} 127.0.0.1\ntls_version tlsv1.3\npsk_hint zeugma\npsk_file {}\n\
             use_identity_as_username true\nacl_file {}\n",
            addr.port(),
            keys.display(),
            acl.display()
        );
        // It has read both files when it answers.
        (Mosquitto::with(&settings), addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its URL for `--broker`.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.addr)
    }

    /// Ends it as a power cut would: what it has not saved is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("a running broker");
        self.child.wait().expect("an ended broker");
    }

    /// Ends it in order: it saves sessions and what waits in them.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        self.child.wait().expect("an ended broker");
    }

    /// Starts it again after [`Mosquitto::kill`] or [`Mosquitto::stop`], on its port and folder.
    pub fn restart(&mut self) {
        self.child = Self::spawn(self.folder.path());
        self.wait();
    }

    /// Ends it as a power cut would, and starts it again.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Lets it save sessions and what waits in them, as it does by itself every half hour.
    pub fn save(&self) {
        let store = self.folder.path().join("mosquitto.db");
        std::fs::remove_file(&store).ok();
        self.signal("-USR1");
        let deadline = Instant::now() + PATIENCE;
        while !store.exists() {
            assert!(Instant::now() < deadline, "mosquitto does not save");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }
}

/// A certificate that this machine made for itself, for `localhost`: the files of it and of its key.
pub fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let output = Command::new(program("openssl", "apt-get install -y openssl"))
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl runs");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    (certificate, key)
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Publishes with `mosquitto_pub`, in a protocol version (`mqttv311`, `mqttv5`).
pub fn mosquitto_pub(addr: SocketAddr, version: &str, topic: &str, payload: &str) {
    run_mosquitto_pub(addr, version, topic, &["-m".as_ref(), payload.as_ref()]);
}

/// The same, of what a file holds.
pub fn mosquitto_pub_file(addr: SocketAddr, version: &str, topic: &str, file: &Path) {
    run_mosquitto_pub(addr, version, topic, &["-f".as_ref(), file.as_ref()]);
}

fn run_mosquitto_pub(addr: SocketAddr, version: &str, topic: &str, what: &[&OsStr]) {
    let port = addr.port().to_string();
    let output = Command::new(program("mosquitto_pub", "apt-get install -y mosquitto-clients"))
        .args(["-h", "127.0.0.1", "-p", &port, "-V", version, "-q", "1", "-t", topic])
        .args(what)
        .output()
        .expect("mosquitto_pub runs");
    assert!(output.status.success(), "mosquitto_pub: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs one of our Python programs that stand for other people's; answers what it printed.
pub fn python(script: &str, args: &[&str]) -> String {
    let python = root().join("target/peers/bin/python");
    let python =
        std::env::var_os("ZEUGMA_PEERS").map_or(python, |folder| PathBuf::from(folder).join("bin/python"));
    assert!(python.exists(), "there is no {}: run ./test, which installs what tests need", python.display());
    let output = Command::new(python).arg(root().join("tests/peers").join(script)).args(args).output();
    let output = output.expect("python runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Rows of a table of a lake, as DuckDB reads the files that `deltalake` for Python lists.
pub fn duckdb(lake: &str, table: &str, sql: &str) -> Vec<Value> {
    serde_json::from_str(&python("duck.py", &[lake, table, sql])).expect("JSON")
}

/// The root of the project.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The folder of real data, where this machine has it.
pub fn real_data() -> Option<PathBuf> {
    let folder =
        std::env::var_os("ZEUGMA_REAL_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// Where a program is.
///
/// # Panics
/// Where it is nowhere; says how to install it.
pub fn program(name: &str, install: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found =
        std::env::split_paths(&path).chain(sbin).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: {install} (or run ./test, which does it)"))
}
