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
    let folder = here.parent().and_then(Path::parent).expect("target/release");
    let path = folder.join("zeugma");
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
        Self::start_in(&[], args, http)
    }

    /// The same, with more in its environment.
    pub fn start_in(environment: &[(&str, &Path)], args: &[&str], http: SocketAddr) -> Program {
        let mut command = Command::new(binary());
        command.args(args).envs(environment.iter().copied()).stdout(Stdio::null());
        let child = command.spawn().expect("the binary runs");
        let mut program = Program { child };
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(http).is_err() {
            assert!(program.child.try_wait().expect("a child").is_none(), "zeugma {args:?} ended at once");
            assert!(Instant::now() < deadline, "zeugma {args:?} does not answer on {http}");
            std::thread::sleep(Duration::from_millis(20));
        }
        program
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
