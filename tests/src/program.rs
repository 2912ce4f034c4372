//! The real binary as a child process: for what only a process can show, as being killed.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use crate::city::PATIENCE;

/// A running `zeugma`; killed when dropped.
pub struct Program {
    child: Child,
}

/// The binary beside the tests', or beside a program of this package.
///
/// # Panics
/// Where it was not built: says how.
pub fn binary() -> PathBuf {
    let here = std::env::current_exe().expect("a path of this program");
    let mut folders = here.ancestors().skip(1).take(2).map(|folder| folder.join("zeugma"));
    let found = folders.find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("there is no `zeugma` beside {}: run `cargo build --release` first", here.display())
    })
}

/// A port that was free a moment ago.
pub fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// Runs a command to its end.
pub fn run(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().expect("the binary runs")
}

/// Runs a command to its end beside what the test goes on with; answers its exit code and what it says on
/// standard output and standard error.
pub async fn says(args: &[&str]) -> (Option<i32>, String, String) {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let run = move || run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let output = tokio::task::spawn_blocking(run).await.expect("the command runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

impl Program {
    /// Starts a command that may need a while, its standard error going to `stderr`.
    pub fn spawn(args: &[&str], stderr: Stdio) -> Program {
        let command = Command::new(binary()).args(args).stdout(Stdio::null()).stderr(stderr).spawn();
        Program { child: command.expect("the binary runs") }
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it says, where its standard error was piped and nobody has taken it yet.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Starts a server and waits until it is ready.
    pub fn start(args: &[&str], http: SocketAddr) -> Program {
        Self::start_with(args, http, |_| ())
    }

    /// The same, with a changed environment.
    pub fn start_with(args: &[&str], http: SocketAddr, change: impl FnOnce(&mut Command)) -> Program {
        let mut command = Command::new(binary());
        command.args(args).stdout(Stdio::null());
        change(&mut command);
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
    pub fn interrupt(self) -> ExitStatus {
        self.signal("INT");
        self.ended_within(PATIENCE)
    }

    /// Sends it a signal, by its name as `kill` knows it.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([format!("-{name}"), pid]).status().expect("kill");
        assert!(sent.success(), "SIG{name} was not sent");
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits for its end.
    pub fn ended_within(mut self, at_most: Duration) -> ExitStatus {
        let deadline = Instant::now() + at_most;
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
