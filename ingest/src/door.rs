//! The door: an MQTT listener for devices that publish straight to us.
//!
//! In: PUBLISH packets of any connection. Out: records submitted to the journal. Promise: a PUBACK leaves
//! only after the payload is on disk; the records of one connection keep their order.
//!
//! ```text
//! connection ─▶ frames ─▶ gate (may it be read?) ─▶ publish (judge, read to the end) ─┐
//! connection ─▶ frames ─▶ gate ─▶ publish ────────────────────────────────────────────┼─▶ turn ─▶ journal
//!                                      acknowledged ◀── one wake for the whole turn ◀─┘            (told)
//! ```
//!
//! - [`account`] - what each tenant, and all together, take
//! - [`beginning`] - the first connection is taken when all workers are known
//! - [`frames`] - packets that are too long are never gathered
//! - [`gate`] - back-pressure: when a connection is not read further
//! - [`guests`] - who is connected, first as a stranger, then as a session
//! - [`limits`] - how much of everything, and what it adds up to
//! - [`mod@line`] - connections that wait for a limit
//! - [`names`] - a second connection of a client id ends the first
//! - [`order`] - the publishes of a connection stay in order
//! - [`publish`] - what becomes of one publish
//! - [`rules`] - what each version of the protocol is told and answered
//! - [`server`] - how the listener starts and ends
//! - [`session`] - one connection: its tenant, its share of everything, when it may be read
//! - [`sink`] - how a connection is closed
//! - [`turn`] - the payloads of one turn of a worker's loop, told of together
//! - [`worker`] - what the connections of one thread share

mod account;
mod beginning;
mod frames;
mod gate;
mod guests;
pub mod limits;
mod line;
mod names;
mod order;
mod publish;
mod rules;
mod server;
mod session;
mod sink;
mod turn;
mod worker;

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, atomic::AtomicU64},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use zeugma_journal::Group;

pub use limits::Limits;

use crate::{Clock, Metrics, blocked::Blocked};

/// How long payloads already taken may wait for their sync when the door closes.
pub const DRAIN: Duration = Duration::from_secs(5);

/// What can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// Threads that serve connections.
    pub workers: usize,
    /// How long a connection may take to send its first byte, and again to send its CONNECT.
    pub handshake_seconds_max: u16,
    /// Payloads of one connection that may wait for their sync: MQTT 5's Receive Maximum, and where
    /// reading stops for all.
    pub in_flight_max: u16,
    /// How much connections, tenants, and all together may take.
    pub limits: Limits,
    /// Of whom nothing is taken.
    pub blocked: Blocked,
}

impl Default for Config {
    fn default() -> Config {
        // The journal's thread, acceptance and queries need the other cores.
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        Config {
            workers: cores.min(2),
            handshake_seconds_max: 5,
            in_flight_max: 1_000,
            limits: Limits::default(),
            blocked: Blocked::default(),
        }
    }
}

/// What every worker gets a copy of.
#[derive(Clone)]
struct Parts {
    config: Config,
    group: Group,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// Turns true once, when the door closes.
    closing: watch::Receiver<bool>,
    /// How the workers begin.
    beginning: beginning::Beginning,
    /// Told by each worker when it has nothing left to acknowledge.
    drained: mpsc::UnboundedSender<()>,
    /// How many connections there have been; each has its number.
    sessions: Arc<AtomicU64>,
    accounts: Arc<account::Accounts>,
    names: Arc<names::Names>,
}

/// A listener that serves until it is stopped or dropped.
#[derive(Debug)]
pub struct Door {
    addr: SocketAddr,
    closing: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Door {
    /// Serves on a listener that is bound already, on threads of its own.
    ///
    /// # Errors
    /// Where the listener has no address, or no thread can be started.
    pub fn start(
        listener: TcpListener,
        group: Group,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> std::io::Result<Door> {
        Door::start_with(Config::default(), listener, group, metrics, clock)
    }

    /// The same with other settings.
    ///
    /// # Errors
    /// As [`Door::start`].
    pub fn start_with(
        config: Config,
        listener: TcpListener,
        group: Group,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> std::io::Result<Door> {
        let addr = listener.local_addr()?;
        server::prepare(&listener)?;
        let (closing, closed) = watch::channel(false);
        // One message of each worker, so it stays small without a limit.
        let (drained, all_drained) = mpsc::unbounded_channel();
        let (started, ready) = std::sync::mpsc::sync_channel(1);
        let config = Config { workers: config.workers.max(1), ..config };
        let parts = Parts {
            accounts: Arc::new(account::Accounts::new(&config.limits)),
            names: Arc::default(),
            config,
            group,
            metrics,
            clock,
            closing: closed,
            beginning: beginning::Beginning::new(),
            drained,
            sessions: Arc::default(),
        };
        let thread = std::thread::Builder::new()
            .name("door".into())
            .spawn(move || server::run(listener, parts, started, all_drained))?;
        ready.recv().unwrap_or_else(|_| Err(std::io::Error::other("the door's thread ended at once")))?;
        Ok(Door { addr, closing, thread })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no new connections or payloads, acknowledges what was taken (for at most [`DRAIN`]), and
    /// closes. Blocks until that is done.
    pub fn stop(self) {
        self.closing.send_replace(true);
        if self.thread.join().is_err() {
            tracing::error!("the door's thread panicked");
        }
    }
}

#[cfg(test)]
mod tests;
