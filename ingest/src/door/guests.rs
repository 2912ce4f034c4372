//! The guests: connections of one worker, first as strangers, then as sessions.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ntex::io::IoRef;
use tokio::sync::mpsc;

use super::{
    Parts,
    account::Accounts,
    names::{Names, name},
    session::Session,
    sink::{Farewell, Sink},
    worker::Worker,
};
use crate::Metrics;

/// Who is connected to one worker.
pub(super) struct Guests {
    metrics: Arc<Metrics>,
    accounts: Arc<Accounts>,
    names: Arc<Names>,
    /// Counts the connections of all workers.
    begun: Arc<AtomicU64>,
    /// Connections that have not introduced themselves, the longest silent first.
    strangers: RefCell<BTreeMap<u64, IoRef>>,
    strangers_max: usize,
    sessions: RefCell<HashMap<u64, (Weak<Session>, Sink)>>,
    /// Sessions that have never published anything, the oldest first.
    unheard: RefCell<BTreeSet<u64>>,
    /// Tells this worker of a session whose name another has taken.
    end: mpsc::UnboundedSender<u64>,
}

impl Guests {
    /// Nobody yet.
    pub fn new(parts: &Parts, end: mpsc::UnboundedSender<u64>) -> Guests {
        Guests {
            metrics: parts.metrics.clone(),
            accounts: parts.accounts.clone(),
            names: parts.names.clone(),
            begun: parts.sessions.clone(),
            strangers: RefCell::default(),
            strangers_max: parts.config.limits.strangers().div_ceil(parts.config.workers),
            sessions: RefCell::default(),
            unheard: RefCell::default(),
            end,
        }
    }

    /// Takes a connection that has not introduced itself yet, and answers its number. Where there are too
    /// many, the one that has been silent for longest goes.
    pub fn arrive(&self, io: IoRef) -> u64 {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let mut strangers = self.strangers.borrow_mut();
        strangers.insert(number, io);
        let gone = if strangers.len() > self.strangers_max { strangers.pop_first() } else { None };
        // Ending it may run the library's code.
        drop(strangers);
        if let Some((_, silent)) = gone {
            self.metrics.turned_away.inc();
            silent.terminate();
        }
        number
    }

    /// Forgets a stranger that has introduced itself, or has gone.
    pub fn depart(&self, number: u64) {
        let left = self.strangers.borrow_mut().remove(&number);
        drop(left);
    }

    /// Begins the session of a stranger, and ends whoever had its client id. Where there are too many, one
    /// that has never published goes, so that silent guests keep nobody out; else the stranger is refused.
    pub fn enter(
        &self,
        worker: &Rc<Worker>,
        number: u64,
        tenant: Option<String>,
        client_id: &str,
        sink: Sink,
    ) -> Option<Rc<Session>> {
        self.depart(number);
        let name = name(tenant.as_deref(), client_id);
        // Before its place is looked for: the place may be that of whoever had the name.
        if let Some(name) = &name {
            self.names.take(name.clone(), number, &self.end);
        }
        if !self.accounts.all.enter() && !self.make_room() {
            self.metrics.turned_away.inc();
            if let Some(name) = &name {
                self.names.leave(name, number);
            }
            return None;
        }
        self.unheard.borrow_mut().insert(number);
        let session = Rc::new(Session::new(worker.clone(), number, tenant, name));
        self.sessions.borrow_mut().insert(number, (Rc::downgrade(&session), sink));
        self.metrics.connections.inc();
        Some(session)
    }

    /// Notes that a session has published something.
    pub fn spoke(&self, id: u64) {
        self.unheard.borrow_mut().remove(&id);
    }

    /// Ends the session that has published nothing for longest, if there is one, in favour of another.
    fn make_room(&self) -> bool {
        let Some(id) = self.unheard.borrow_mut().pop_first() else { return false };
        self.metrics.turned_away.inc();
        self.close(id, Farewell::TooMany);
        // Its own place is free only once the connection has ended; until then there is one too many.
        self.accounts.all.enter_anyway();
        true
    }

    /// Ends a session.
    pub fn leave(&self, id: u64, name: Option<&str>) {
        if let Some(name) = name {
            self.names.leave(name, id);
        }
        self.accounts.all.leave();
        self.unheard.borrow_mut().remove(&id);
        // The sink is dropped after the borrow ends, as dropping it may run the library's code.
        let left = self.sessions.borrow_mut().remove(&id);
        if left.is_some() {
            self.metrics.connections.dec();
        }
    }

    /// Closes a session's connection, which ends the session.
    pub fn close(&self, id: u64, farewell: Farewell) {
        let left = self.sessions.borrow_mut().remove(&id);
        if let Some((_, sink)) = left {
            self.metrics.connections.dec();
            sink.close(farewell);
        }
    }

    /// Forgets all sessions, and answers how to close them: whoever closes one must not hold the map, which
    /// sessions want when they end.
    pub fn take_all(&self) -> Vec<Sink> {
        let sessions = self.sessions.take();
        self.metrics.connections.dec_by(sessions.len() as i64);
        sessions.into_values().map(|(_, sink)| sink).collect()
    }
}
