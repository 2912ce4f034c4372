//! A session: one connection, and when it may be read further.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{
    account::{Account, has_come, tenant_of},
    limits::{SESSION_IN_FLIGHT_BYTES_MAX, UNRELEASED_MAX},
    line,
    order::Order,
    publish::Error,
    sink::Farewell,
    worker::Worker,
};

/// Why a connection may be read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// No limit holds it back.
    Free,
    /// One would, but the rest of a payload that has begun is still to come.
    ForTheRest,
}

/// One connection.
pub(super) struct Session {
    /// The only tenant it may publish for; `None` where it may publish for all.
    pub tenant: Option<String>,
    /// What it shares with the other connections of its thread.
    pub worker: Rc<Worker>,
    /// Its number among all of this door.
    pub id: u64,
    /// Its client id, by which another connection may end it.
    name: Option<Box<str>>,
    /// The order of its publishes.
    pub order: Rc<Order>,
    in_flight: Cell<usize>,
    in_flight_bytes: Cell<usize>,
    /// QoS 2 publishes whose release has not come.
    unreleased: Cell<usize>,
    /// The account of the tenant it spoke for last.
    account: RefCell<Option<Arc<Account>>>,
    /// The tenant it is counted for.
    seat: RefCell<Option<Arc<Account>>>,
    /// When it may be read further, by the clock; 0 is now.
    due_us: Cell<i64>,
    /// Payloads that come in pieces and are being read, and whether one waits for room.
    in_pieces: Cell<u32>,
    is_reserving: Cell<bool>,
    /// Its place in line, while it waits for a limit, and whether it stands there.
    ticket: Cell<Option<u64>>,
    is_queued: Cell<bool>,
    /// Who reads this connection, while it may not.
    reader: RefCell<Option<Waker>>,
}

impl Session {
    /// A connection that has introduced itself.
    pub fn new(worker: Rc<Worker>, id: u64, tenant: Option<String>, name: Option<Box<str>>) -> Session {
        Session {
            tenant,
            worker,
            id,
            name,
            order: Rc::default(),
            in_flight: Cell::default(),
            in_flight_bytes: Cell::default(),
            unreleased: Cell::default(),
            account: RefCell::default(),
            seat: RefCell::default(),
            due_us: Cell::default(),
            in_pieces: Cell::default(),
            is_reserving: Cell::default(),
            ticket: Cell::default(),
            is_queued: Cell::default(),
            reader: RefCell::default(),
        }
    }

    /// Waits until this connection may be read further.
    pub fn poll_open(self: &Rc<Session>, context: &mut Context<'_>) -> Poll<Pass> {
        let is_held_back = self.is_held_back();
        if !is_held_back && self.is_open() {
            self.ticket.set(None);
            let is_free = self.has_room() && self.others_have_room();
            return Poll::Ready(if is_free { Pass::Free } else { Pass::ForTheRest });
        }
        *self.reader.borrow_mut() = Some(context.waker().clone());
        if is_held_back && !self.worker.is_closing() && !self.is_queued.replace(true) {
            let ticket = self.ticket.get().unwrap_or_else(|| {
                self.worker.metrics.slowed.inc();
                let account = self.account.borrow();
                self.worker.accounts.ticket(account.as_deref())
            });
            self.ticket.set(Some(ticket));
            line::queue(&self.worker, ticket, self);
        }
        Poll::Pending
    }

    /// Lets whoever reads this connection look again.
    pub fn wake_reader(&self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    /// Wakes the reader and leaves the line where no limit holds it back any more; answers whether it did.
    pub fn wake_if_free(&self) -> bool {
        let is_free = self.worker.is_closing() || !self.is_held_back();
        if is_free {
            self.is_queued.set(false);
            self.wake_reader();
        }
        is_free
    }

    /// What only this connection's own answers change; a payload that has begun is read to its end.
    fn is_open(&self) -> bool {
        (self.has_room() || self.in_pieces.get() > 0) && !self.is_reserving.get()
    }

    fn has_room(&self) -> bool {
        self.in_flight.get() < self.worker.in_flight_max
            && self.in_flight_bytes.get() < SESSION_IN_FLIGHT_BYTES_MAX
    }

    fn others_have_room(&self) -> bool {
        let tenant_has_room = self.account.borrow().as_ref().is_none_or(|account| account.has_room());
        tenant_has_room && self.worker.is_open()
    }

    /// What others change: the clock, the journal, payloads of the same tenant or worker.
    fn is_held_back(&self) -> bool {
        if self.worker.is_closing() {
            return true;
        }
        if self.due_us.get() != 0 {
            if !has_come(self.due_us.get(), self.worker.now_us()) {
                return true;
            }
            self.due_us.set(0);
        }
        self.in_pieces.get() == 0 && !self.others_have_room()
    }

    /// The account that a publish to this topic is counted for.
    pub fn account(&self, topic: &str) -> Result<Arc<Account>, Error> {
        let tenant = self.tenant.as_deref().unwrap_or_else(|| tenant_of(topic));
        let mut last = self.account.borrow_mut();
        if let Some(account) = last.as_ref().filter(|account| *account.name == *tenant) {
            return Ok(account.clone());
        }
        let account = self.worker.account(tenant);
        let mut seat = self.seat.borrow_mut();
        if seat.is_none() {
            if !account.enter() {
                return Err(Error::TooMany);
            }
            *seat = Some(account.clone());
            self.worker.guests.spoke(self.id);
        }
        *last = Some(account.clone());
        Ok(account)
    }

    /// Counts bytes that have come; this connection is read again when the slowest account allows.
    pub fn charge(&self, account: &Account, bytes: usize) {
        let now_us = self.worker.now_us();
        let due_us = account.charge(bytes, now_us).max(self.worker.accounts.all.charge(bytes, now_us));
        if due_us > now_us {
            self.due_us.set(self.due_us.get().max(due_us));
        }
    }

    /// Says goodbye to a connection that its tenant may not have.
    pub fn turn_away(&self) {
        self.worker.metrics.turned_away.inc();
        self.worker.guests.close(self.id, Farewell::TooMany);
    }

    /// Says that a payload comes in pieces, until the answer is dropped.
    pub fn begin_pieces(self: &Rc<Session>) -> Pieces {
        self.in_pieces.set(self.in_pieces.get() + 1);
        self.wake_reader();
        Pieces(self.clone())
    }

    /// Reads nothing while a payload waits for room, so that the library does not gather it.
    pub fn set_reserving(&self, is_reserving: bool) {
        self.is_reserving.set(is_reserving);
        if !is_reserving {
            self.wake_reader();
        }
    }

    /// Counts a QoS 2 publish.
    pub fn begin_release(&self) -> Result<(), Error> {
        self.unreleased.set(self.unreleased.get() + 1);
        if self.unreleased.get() > UNRELEASED_MAX { Err(Error::Unreleased) } else { Ok(()) }
    }

    /// Counts its release.
    pub fn end_release(&self) {
        self.unreleased.set(self.unreleased.get().saturating_sub(1));
    }

    /// Counts a payload that waits for its sync, until the answer is dropped.
    pub fn hold(self: &Rc<Session>, account: Arc<Account>, bytes: usize) -> Held {
        self.in_flight.set(self.in_flight.get() + 1);
        self.in_flight_bytes.set(self.in_flight_bytes.get() + bytes);
        account.hold(bytes);
        self.worker.hold(bytes);
        Held { session: self.clone(), account, bytes }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            seat.leave();
        }
        self.worker.guests.leave(self.id, self.name.as_deref());
    }
}

/// See [`Session::begin_pieces`].
pub(super) struct Pieces(Rc<Session>);

impl Drop for Pieces {
    fn drop(&mut self) {
        self.0.in_pieces.set(self.0.in_pieces.get() - 1);
    }
}

/// See [`Session::hold`].
pub(super) struct Held {
    session: Rc<Session>,
    account: Arc<Account>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        let session = &self.session;
        let was_open = session.is_open();
        session.in_flight.set(session.in_flight.get() - 1);
        session.in_flight_bytes.set(session.in_flight_bytes.get() - self.bytes);
        self.account.release(self.bytes);
        session.worker.release(self.bytes);
        if !was_open {
            session.wake_reader();
        }
    }
}
