//! Names: which session has which client id, so that a second connection of one ends the first.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

/// Who has which client id, of all workers.
#[derive(Debug, Default)]
pub(super) struct Names {
    holders: Mutex<HashMap<Box<str>, Holder>>,
}

#[derive(Debug)]
struct Holder {
    session: u64,
    /// Tells its worker to end it. Each session is told once at most, so it stays small without a limit.
    end: mpsc::UnboundedSender<u64>,
}

/// A client id within its tenant: ids of others cannot be taken. No text of MQTT's holds a zero.
pub(super) fn name(tenant: Option<&str>, client_id: &str) -> Option<Box<str>> {
    match (client_id, tenant) {
        ("", _) => None,
        (_, None) => Some(client_id.into()),
        (_, Some(tenant)) => Some(format!("{tenant}\0{client_id}").into()),
    }
}

impl Names {
    /// Gives a session its name; whoever had it is ended.
    pub fn take(&self, name: Box<str>, session: u64, end: &mpsc::UnboundedSender<u64>) {
        let before = self.lock().insert(name, Holder { session, end: end.clone() });
        if let Some(before) = before {
            // Nobody hears it where the worker has ended, and the session with it.
            let _ = before.end.send(before.session);
        }
    }

    /// Forgets a session that has ended; its name may be another's by now.
    pub fn leave(&self, name: &str, session: u64) {
        let mut holders = self.lock();
        if holders.get(name).is_some_and(|holder| holder.session == session) {
            holders.remove(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Holder>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
