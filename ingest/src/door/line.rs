//! The line: connections that wait for a limit, in the order in which they began to wait.
//!
//! What they wait for happens elsewhere - time passes, another worker's payloads are synced - and nobody
//! tells them, so a worker with anybody in line looks every few milliseconds.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
};

use ntex::{rt::spawn, time::sleep};

use super::{
    session::Session,
    worker::{LOOK, Worker},
};

/// Those of one worker.
#[derive(Default)]
pub(super) struct Line {
    waiting: RefCell<Vec<(u64, Weak<Session>)>>,
    tickets: Cell<u64>,
    is_looked_at: Cell<bool>,
}

impl Line {
    /// A number higher than all before.
    pub fn ticket(&self) -> u64 {
        self.tickets.set(self.tickets.get() + 1);
        self.tickets.get()
    }
}

/// Puts a session in line by its ticket: whoever was woken and found no room again keeps the place it had.
pub(super) fn queue(worker: &Rc<Worker>, ticket: u64, session: &Rc<Session>) {
    worker.line.waiting.borrow_mut().push((ticket, Rc::downgrade(session)));
    if !worker.line.is_looked_at.replace(true) {
        let worker = worker.clone();
        spawn(async move { look(&worker).await });
    }
}

/// Wakes whoever need not wait any more, until nobody is in line.
async fn look(worker: &Worker) {
    loop {
        sleep(LOOK).await;
        worker.look_for_room();
        let mut waiting = worker.line.waiting.take();
        waiting.sort_unstable_by_key(|(ticket, _)| *ticket);
        waiting.retain(|(_, session)| session.upgrade().is_some_and(|session| !session.wake_if_free()));
        // Nobody ran meanwhile, so nobody has queued.
        let is_empty = waiting.is_empty();
        worker.line.waiting.replace(waiting);
        if is_empty {
            worker.line.is_looked_at.set(false);
            return;
        }
    }
}
