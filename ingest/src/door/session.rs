//! A session: one connection, whose records keep their order and whose share of the memory is limited.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::worker::Worker;

/// Bytes of one connection that may wait for their sync: a thousand payloads of usual size, or four of
/// the largest. The one that passes the limit is still taken.
const IN_FLIGHT_BYTES_MAX: usize = 1 << 20;

/// One connection.
pub(super) struct Session {
    /// The only tenant it may publish for; `None` where it may publish for all.
    pub tenant: Option<String>,
    /// What it shares with the other connections of its thread.
    pub worker: Rc<Worker>,
    /// Its number among all of this door.
    pub id: u64,
    /// The number that the next publish gets, and the one whose turn it is.
    next: Cell<u64>,
    serving: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
    in_flight: Cell<usize>,
    in_flight_bytes: Cell<usize>,
    /// Who reads this connection, while it may not.
    reader: RefCell<Option<Waker>>,
}

impl Session {
    /// A connection that has introduced itself.
    pub fn new(worker: Rc<Worker>, id: u64, tenant: Option<String>) -> Session {
        Session {
            tenant,
            worker,
            id,
            next: Cell::default(),
            serving: Cell::default(),
            waiting: RefCell::default(),
            in_flight: Cell::default(),
            in_flight_bytes: Cell::default(),
            reader: RefCell::default(),
        }
    }

    /// Waits until this connection may be read further.
    pub fn poll_open(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_open() && self.worker.is_open() {
            return Poll::Ready(());
        }
        *self.reader.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// Lets whoever reads this connection look again.
    pub fn wake_reader(&self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn is_open(&self) -> bool {
        self.in_flight.get() < self.worker.in_flight_max && self.in_flight_bytes.get() < IN_FLIGHT_BYTES_MAX
    }

    /// A place in the order of arrival; to be taken before anything is waited for.
    pub fn place(self: &Rc<Session>) -> Place {
        let number = self.next.get();
        self.next.set(number + 1);
        Place { session: self.clone(), number }
    }

    /// Counts a payload that waits for its sync, until the answer is dropped.
    pub fn hold(self: &Rc<Session>, bytes: usize) -> Held {
        self.in_flight.set(self.in_flight.get() + 1);
        self.in_flight_bytes.set(self.in_flight_bytes.get() + bytes);
        self.worker.hold();
        Held { session: self.clone(), bytes }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.worker.leave(self.id);
    }
}

/// A publish's place in the order of its connection: a payload that comes in pieces keeps back the whole
/// ones behind it.
pub(super) struct Place {
    session: Rc<Session>,
    number: u64,
}

impl Place {
    /// Waits until all before it have been submitted.
    pub async fn reached(&self) {
        poll_fn(|context| {
            if self.session.serving.get() >= self.number {
                return Poll::Ready(());
            }
            self.session.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let session = &self.session;
        session.serving.set(session.serving.get().max(self.number + 1));
        session.waiting.take().into_iter().for_each(Waker::wake);
    }
}

/// See [`Session::hold`].
pub(super) struct Held {
    session: Rc<Session>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        let session = &self.session;
        let was_open = session.is_open();
        session.in_flight.set(session.in_flight.get() - 1);
        session.in_flight_bytes.set(session.in_flight_bytes.get() - self.bytes);
        session.worker.release();
        if !was_open {
            session.wake_reader();
        }
    }
}
