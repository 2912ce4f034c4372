//! Tells systemd how the program fares (the protocol of sd_notify(3)): ready, stopping, working.
//!
//! The watchdog is told only while the writer works: a sync or a block of acceptance that does not end
//! between two looks, half a watchdog's time apart, keeps it from being told, and systemd starts the
//! program again. Without systemd nothing is told to anybody.

use std::{
    ffi::OsStr,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use zeugma_ingest::Status;

/// How often the status is told where there is no watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// Where to tell it.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// As systemd has set the environment.
    pub fn from_env() -> Notify {
        let var = |name: &str| std::env::var(name).ok();
        let socket = std::env::var_os("NOTIFY_SOCKET");
        let Some(addr) = socket.as_deref().and_then(addr) else { return Notify::default() };
        let socket = match UnixDatagram::unbound() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "systemd cannot be told how we fare");
                return Notify::default();
            }
        };
        let watchdog = watchdog(var("WATCHDOG_USEC"), var("WATCHDOG_PID"), std::process::id());
        Notify { socket: Some((socket, addr)), watchdog }
    }

    /// The doors are open.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=ready");
    }

    /// It is stopping, for this reason.
    pub fn stopping(&self, reason: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={}", one_line(reason)));
    }

    /// Tells how the writer fares, again and again; a program that only answers is told of by its living.
    pub async fn keep_telling(&self, writer: Option<Status>) {
        if self.socket.is_none() {
            return;
        }
        let every = self.watchdog.map_or(STATUS_EVERY, |watchdog| watchdog / 2);
        let mut before = writer.as_ref().map(|writer| writer.metrics().progress.look());
        loop {
            tokio::time::sleep(every).await;
            let Some(writer) = &writer else {
                self.tell("WATCHDOG=1\nSTATUS=ready");
                continue;
            };
            let now = writer.metrics().progress.look();
            let stuck = before.and_then(|before| now.stuck_since(&before));
            before = Some(now);
            match stuck {
                Some(stuck) => {
                    tracing::error!(
                        stuck,
                        seconds = every.as_secs_f64(),
                        "the watchdog is not told that we work"
                    );
                    self.tell(&format!("STATUS=stuck: {stuck}"));
                }
                None => self.tell(&format!("WATCHDOG=1\nSTATUS={}", status(writer))),
            }
        }
    }

    fn tell(&self, state: &str) {
        let Some((socket, addr)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), addr) {
            tracing::debug!(%error, "systemd was not told");
        }
    }
}

/// One line for `systemctl status`.
fn status(writer: &Status) -> String {
    let troubles = writer.troubles();
    if !troubles.is_empty() {
        return one_line(&troubles.join("; "));
    }
    let metrics = writer.metrics();
    format!(
        "{} connections, {} payloads acknowledged, {} readings undecided",
        metrics.connections.get(),
        metrics.acknowledged.get(),
        metrics.undecided.get()
    )
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// A path, or a name in the kernel's abstract namespace.
fn addr(socket: &OsStr) -> Option<SocketAddr> {
    match socket.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(socket).ok(),
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        _ => None,
    }
}

/// The watchdog's time, where it is set and meant for this process.
fn watchdog(usec: Option<String>, pid: Option<String>, ours: u32) -> Option<Duration> {
    let usec: u64 = usec?.parse().ok().filter(|usec| *usec > 0)?;
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(ours));
    is_ours.then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchdog_of_another_process_is_not_ours() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(watchdog(some("60000000"), some("7"), 7), Some(Duration::from_secs(60)));
        assert_eq!(watchdog(some("60000000"), None, 7), Some(Duration::from_secs(60)));
        assert_eq!(watchdog(some("60000000"), some("8"), 7), None);
        assert_eq!((watchdog(some("0"), None, 7), watchdog(None, None, 7)), (None, None));
        assert_eq!(watchdog(some("soon"), None, 7), None);
    }

    #[test]
    fn sockets_are_paths_or_abstract_names() {
        assert!(addr(OsStr::new("/run/notify")).is_some_and(|addr| addr.as_pathname().is_some()));
        assert!(addr(OsStr::new("@notify")).is_some_and(|addr| addr.as_abstract_name() == Some(b"notify")));
        assert!(addr(OsStr::new("notify")).is_none() && addr(OsStr::new("")).is_none());
    }
}
