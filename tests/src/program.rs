//! The real binary as a child process: for what only a process can show, as being killed.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use crate::city::PATIENCE;

/// A running `zeugma`; killed when dropped.
pub struct Program {
    child: Child,
}

/// The binary beside the tests'.
///
/// # Panics
/// Where it was not built: says how.
pub fn binary() -> PathBuf {
    let here = std::env::current_exe().expect("a path of this test");
    // A test lies one folder deeper than a program.
    let folders = here.parent().into_iter().chain(here.parent().and_then(Path::parent));
    let mut paths = folders.map(|folder| folder.join("zeugma"));
    let deepest = here.with_file_name("zeugma");
    let path = paths.find(|path| path.is_file()).unwrap_or(deepest);
    assert!(path.exists(), "there is no {}: run `cargo build --release` first, or ./test", path.display());
    path
}

/// A port that was free a moment ago.
pub fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// Runs a command to its end.
pub fn run(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().expect("the binary runs")
}

impl Program {
    /// Starts a server and waits until it is ready.
    pub fn start(args: &[&str], http: SocketAddr) -> Program {
        let child = Command::new(binary()).args(args).stdout(Stdio::null()).spawn().expect("the binary runs");
        let mut program = Program { child };
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(http).is_err() {
            assert!(program.child.try_wait().expect("a child").is_none(), "zeugma {args:?} ended at once");
            assert!(Instant::now() < deadline, "zeugma {args:?} does not answer on {http}");
            std::thread::sleep(Duration::from_millis(20));
        }
        program
    }

    /// The most memory it has held, KiB.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn memory_peak_kib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.ok_or_else(|| anyhow::anyhow!("no VmHWM"))?.parse()?)
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().expect("a running child");
        self.child.wait().expect("an ended child");
    }

    /// Asks it to end, as Ctrl-C does, and waits.
    pub fn interrupt(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status().expect("kill");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "zeugma does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
