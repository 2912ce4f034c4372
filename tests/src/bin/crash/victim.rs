//! The victim: the real `zeugma ingest` as a child process, what it says, and where it keeps its things.

use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ChildStderr, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use fastrand::Rng;
use zeugma_tests::Program;

/// Said when the journal's readings have been handed to acceptance.
const OPEN: &str = "journal open";

/// Said when it serves.
const SERVING: &str = "devices publish to";

/// How long a start may take, with all there is to replay.
const START_MAX: Duration = Duration::from_secs(120);

/// Ports below the range that the kernel gives to clients: one of those that connect again and again
/// could be given the very port it connects to, and find itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Where a victim is: its folders and its ports.
#[derive(Debug, Clone)]
pub struct Place {
    pub data: PathBuf,
    pub mqtt: SocketAddr,
    pub http: SocketAddr,
}

/// A running victim.
pub struct Victim {
    program: Program,
    spawned: Instant,
    said: Receiver<(Said, Instant)>,
    log: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Open,
    Serving,
}

impl Place {
    /// A new place below a folder.
    pub fn new(folder: &Path, chance: &mut Rng) -> anyhow::Result<Place> {
        std::fs::create_dir_all(folder)?;
        let mut port = || {
            let ports = (0..1_000).map(|_| chance.u16(PORTS));
            let addrs = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
            addrs.into_iter().find(|addr| TcpListener::bind(addr).is_ok()).context("there is no free port")
        };
        Ok(Place { data: folder.join("data"), mqtt: port()?, http: port()? })
    }

    /// The folder of the journal.
    pub fn journal(&self) -> PathBuf {
        self.data.join("journal")
    }

    /// The folder of the table that is filled.
    pub fn table(&self) -> PathBuf {
        self.data.join("lake/fleet")
    }

    fn log(&self) -> PathBuf {
        self.data.with_file_name("log")
    }
}

impl Victim {
    /// Starts one; it does not serve yet.
    pub fn start(place: &Place) -> anyhow::Result<Victim> {
        let data = place.data.display().to_string();
        let (mqtt, http) = (place.mqtt.to_string(), place.http.to_string());
        let args = ["ingest", "--data", &data, "--mqtt", &mqtt, "--http", &http, "--commit-interval", "1s"];
        let spawned = Instant::now();
        let mut program = Program::spawn(&args, Stdio::piped());
        let stderr = program.stderr().context("piped above")?;
        let (sender, said) = channel();
        let log = place.log();
        let mut file = OpenOptions::new().create(true).append(true).open(&log)?;
        writeln!(file, "-- process {}", program.pid())?;
        std::thread::spawn(move || listen(stderr, file, &sender));
        Ok(Victim { program, spawned, said, log })
    }

    /// Waits until the journal has been replayed; answers how long that took.
    pub fn open(&self) -> anyhow::Result<Duration> {
        self.wait_for(Said::Open)
    }

    /// Waits until it serves; answers how long that took.
    pub fn serving(&self) -> anyhow::Result<Duration> {
        self.wait_for(Said::Serving)
    }

    /// Fails where it ended by itself.
    pub fn alive(&mut self) -> anyhow::Result<()> {
        match self.program.ended() {
            None => Ok(()),
            Some(status) => bail!("zeugma ended by itself with {status}:\n{}", self.last_words()),
        }
    }

    /// Ends it as a power cut would end a process.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.alive()?;
        self.program.kill();
        Ok(())
    }

    /// Stops it in order.
    pub fn stop(self) -> anyhow::Result<()> {
        let words = self.last_words();
        let status = self.program.interrupt();
        ensure!(status.success(), "a stop in order ended with {status}:\n{words}");
        Ok(())
    }

    fn wait_for(&self, wanted: Said) -> anyhow::Result<Duration> {
        let deadline = self.spawned + START_MAX;
        loop {
            match self.said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((said, at)) if said == wanted => return Ok(at - self.spawned),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("zeugma does not start:\n{}", self.last_words()),
                Err(RecvTimeoutError::Disconnected) => bail!("zeugma ended:\n{}", self.last_words()),
            }
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// Keeps what is said, and passes on what is waited for.
fn listen(stderr: ChildStderr, mut log: std::fs::File, sender: &Sender<(Said, Instant)>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let now = Instant::now();
        let words = [(OPEN, Said::Open), (SERVING, Said::Serving)];
        for (_, said) in words.iter().filter(|(words, _)| line.contains(words)) {
            // Nobody waits any more once it was killed.
            sender.send((*said, now)).ok();
        }
        writeln!(log, "{line}").ok();
    }
}
