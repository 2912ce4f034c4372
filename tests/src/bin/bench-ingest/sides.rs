//! The programs that are compared, as child processes: `zeugma ingest`, mosquitto, the subscriber.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use zeugma_tests::{
    Program,
    ask::Asker,
    process,
    program::{self, free_port},
};

use crate::subscriber::{DONE, READY};

/// How long a program may take until it answers.
const START_MAX: Duration = Duration::from_secs(30);

/// A running `zeugma ingest` with a folder of its own.
pub struct Zeugma {
    pub mqtt: SocketAddr,
    pub asker: Asker,
    program: Program,
    folder: TempDir,
}

impl Zeugma {
    /// Starts it and waits until it is ready, behind a broker or not; without limits of rate, as one tenant
    /// sends here what a whole city may, and what is measured is the way of a reading and not a limit.
    pub fn start(
        commit_interval: &str,
        broker: Option<SocketAddr>,
        below: Option<&Path>,
    ) -> anyhow::Result<Zeugma> {
        let folder = match below {
            Some(below) => tempfile::tempdir_in(below)?,
            None => tempfile::tempdir()?,
        };
        let (mqtt, http) = (free_port(), free_port());
        let data = folder.path().join("data").display().to_string();
        let (mqtt_text, http_text) = (mqtt.to_string(), http.to_string());
        let url = broker.map(|addr| format!("mqtt://{addr}"));
        let mut args = vec!["ingest", "--data", &data, "--mqtt", &mqtt_text, "--http", &http_text];
        args.extend(["--commit-interval", commit_interval, "--mqtt-rate", "0", "--tenant-rate", "0"]);
        if let Some(url) = &url {
            args.extend(["--broker", url]);
        }
        let log = File::create(folder.path().join("log"))?;
        let mut zeugma =
            Zeugma { mqtt, asker: Asker::new(http), program: Program::spawn(&args, log.into()), folder };
        let Zeugma { asker, program, .. } = &mut zeugma;
        let ready = asker.until("zeugma to be ready", START_MAX, |asker| {
            ensure!(program.ended().is_none(), "zeugma ended");
            asker.get("/readyz").map(|_| true)
        });
        ready.with_context(|| zeugma.log())?;
        Ok(zeugma)
    }

    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// What it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Stops it in order.
    pub fn stop(self) -> anyhow::Result<()> {
        let log = self.log();
        ensure!(self.program.interrupt().success(), "zeugma did not stop in order: {log}");
        Ok(())
    }
}

/// A running mosquitto without persistence and without limits on what waits or is in flight.
pub struct Mosquitto {
    pub addr: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Mosquitto {
    pub fn start() -> anyhow::Result<Mosquitto> {
        let (folder, addr) = (tempfile::tempdir()?, free_port());
        let config = folder.path().join("mosquitto.conf");
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n\
             max_inflight_messages 0\nmax_queued_messages 0\nmax_queued_bytes 0\nset_tcp_nodelay true\n",
            addr.port()
        );
        std::fs::write(&config, text)?;
        let names = ["mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
        let start =
            |name: &&str| Command::new(name).arg("-c").arg(&config).stderr(Stdio::null()).spawn().ok();
        let child = names.iter().find_map(start);
        let child = child.context("mosquitto is missing: apt-get install -y mosquitto")?;
        let broker = Mosquitto { addr, child, _folder: folder };
        let deadline = Instant::now() + START_MAX;
        while TcpStream::connect(addr).is_err() {
            ensure!(Instant::now() < deadline, "mosquitto does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(broker)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A running subscriber: this program once more.
pub struct Subscriber {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Subscriber {
    /// Starts it and waits until its subscription stands.
    pub fn start(broker: SocketAddr, count: u64) -> anyhow::Result<Subscriber> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["subscribe", &broker.to_string(), &count.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let says = BufReader::new(child.stdout.take().expect("piped above"));
        let mut subscriber = Subscriber { child, says };
        subscriber.hear(READY)?;
        Ok(subscriber)
    }

    /// Waits until it has acknowledged everything; answers the processor time it has used.
    pub fn done(&mut self) -> anyhow::Result<Duration> {
        self.hear(DONE)?;
        Ok(process::processor_time(self.child.id()).unwrap_or_default())
    }

    fn hear(&mut self, word: &str) -> anyhow::Result<()> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        if line.trim() != word {
            bail!("the subscriber ended before it was {word}");
        }
        Ok(())
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Fails where the program that is measured was not built.
pub fn check_binary() -> anyhow::Result<()> {
    std::panic::catch_unwind(program::binary)
        .map(drop)
        .map_err(|_| anyhow::anyhow!("build the program first: cargo build --release --workspace"))
}
