//! A worker: what the connections of one thread share, above all the turn being gathered.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use ntex::{rt::spawn, time::sleep};
use tokio::sync::{mpsc, oneshot};
use zeugma_journal::{Batch, Group, Payload as Kept, Record};

use super::{
    DRAIN, Parts,
    account::{Account, Accounts, Met},
    guests::Guests,
    limits::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX, UNREAD_BYTES_MAX},
    line::Line,
    sink::{Farewell, Sink},
    turn::{Outcome, Turn},
};
use crate::{Clock, Metrics, blocked::Blocked};

/// A turn is submitted early once it holds this much, so that what a worker adds beyond the journal's own
/// limit is this and one payload.
const TURN_BYTES_MAX: usize = 4 << 20;

/// Payloads of one read, of usual size.
const PAYLOADS_READ: usize = 100;

/// How often limits, a full journal, or a door that closes, are looked at again.
pub(super) const LOOK: Duration = Duration::from_millis(5);

/// How far moments of arrival may run ahead of the clock to stay apart: a million a second never do, unless
/// they are arrays.
const ARRIVAL_AHEAD_MAX_US: i64 = 1_000_000;

/// How long closed connections may take to write what they still have.
const CLOSE: Duration = Duration::from_secs(1);

/// What the connections of one thread share.
pub(super) struct Worker {
    group: Group,
    clock: Clock,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Of whom nothing is taken.
    pub blocked: Blocked,
    /// What tenants take, and all together.
    pub accounts: Arc<Accounts>,
    met: RefCell<Met>,
    /// Payloads of one connection that may wait for their sync.
    pub in_flight_max: usize,
    /// How long a payload that comes in pieces may take, seconds.
    pub payload_seconds: u16,
    turn: RefCell<Option<Turn>>,
    /// The earliest moment that the next payload may have come at.
    arrival_us: Cell<i64>,
    /// Whether the journal takes more, as last seen.
    has_room: Cell<bool>,
    closing: Cell<bool>,
    /// Payloads that were taken and whose handlers have not answered, their bytes, and this worker's part
    /// of what there may be of both.
    held: Cell<usize>,
    held_bytes: Cell<usize>,
    held_max: usize,
    held_bytes_max: usize,
    /// Connections that wait for a limit.
    pub line: Line,
    /// Who is connected.
    pub guests: Guests,
}

impl Worker {
    /// One for the current thread, which also waits for the door to close.
    pub fn start(parts: &Parts) -> Rc<Worker> {
        let (end, mut ended) = mpsc::unbounded_channel();
        let worker = Rc::new(Worker::new(parts, end));
        let (closed, mut closing, drained) = (worker.clone(), parts.closing.clone(), parts.drained.clone());
        spawn(async move {
            // An error means that the door was dropped, which closes it as well.
            let _ = closing.wait_for(|closing| *closing).await;
            closed.drain().await;
            let _ = drained.send(());
        });
        let ending = worker.clone();
        spawn(async move {
            while let Some(id) = ended.recv().await {
                ending.guests.close(id, Farewell::TakenOver);
            }
        });
        worker
    }

    fn new(parts: &Parts, end: mpsc::UnboundedSender<u64>) -> Worker {
        let workers = parts.config.workers;
        Worker {
            group: parts.group.clone(),
            clock: parts.clock.clone(),
            metrics: parts.metrics.clone(),
            blocked: parts.config.blocked.clone(),
            accounts: parts.accounts.clone(),
            met: RefCell::default(),
            in_flight_max: parts.config.in_flight_max.into(),
            payload_seconds: parts.config.limits.payload_seconds,
            turn: RefCell::default(),
            arrival_us: Cell::default(),
            has_room: Cell::new(true),
            closing: Cell::default(),
            held: Cell::default(),
            held_bytes: Cell::default(),
            held_max: IN_FLIGHT_MAX / workers,
            held_bytes_max: IN_FLIGHT_BYTES_MAX / workers,
            line: Line::default(),
            guests: Guests::new(parts, end),
        }
    }

    /// Whether connections may be read.
    pub fn is_open(&self) -> bool {
        self.has_room.get() && self.held.get() < self.held_max && self.held_bytes.get() < self.held_bytes_max
    }

    /// How many connections may be read at once, if each brings what one read holds; one in any case.
    pub fn turns(&self) -> usize {
        let payloads = self.held_max.saturating_sub(self.held.get()) / PAYLOADS_READ;
        let bytes = self.held_bytes_max.saturating_sub(self.held_bytes.get()) / UNREAD_BYTES_MAX;
        payloads.min(bytes).max(1)
    }

    /// Whether the door closes.
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Sees whether the journal takes more by now.
    pub fn look_for_room(&self) {
        if !self.has_room.get() {
            self.has_room.set(self.group.has_room());
        }
    }

    /// The time: that of the turn, where one is being gathered.
    pub fn now_us(&self) -> i64 {
        self.turn.borrow().as_ref().map_or_else(|| (self.clock)(), |turn| turn.received_at_us)
    }

    /// A tenant's account.
    pub fn account(&self, tenant: &str) -> Arc<Account> {
        self.met.borrow_mut().of(tenant, &self.accounts, self.now_us())
    }

    /// Counts a payload that is taken.
    pub fn hold(&self, bytes: usize) {
        self.held.set(self.held.get() + 1);
        self.held_bytes.set(self.held_bytes.get() + bytes);
    }

    /// Counts a payload that is answered.
    pub fn release(&self, bytes: usize) {
        self.held.set(self.held.get() - 1);
        self.held_bytes.set(self.held_bytes.get() - bytes);
    }

    /// When a payload came: no two have one moment, since readings without a time of their own take it from
    /// here, those of an array one microsecond apart.
    fn arrival(&self, turn_us: i64, payload: &[u8]) -> i64 {
        let arrival_us = self.arrival_us.get().clamp(turn_us, turn_us + ARRIVAL_AHEAD_MAX_US);
        // An element of an array and its comma take three bytes at least.
        let readings_max = if payload.first() == Some(&b'[') { 1 + payload.len() as i64 / 3 } else { 1 };
        self.arrival_us.set(arrival_us + readings_max);
        arrival_us
    }

    /// Adds a record to the turn, with the moment it came at.
    pub fn push(self: &Rc<Worker>, mut record: Record<'_>) -> Rc<Outcome> {
        let mut open = self.turn.borrow_mut();
        let turn = open.get_or_insert_with(|| {
            let worker = self.clone();
            spawn(async move {
                step_back().await;
                worker.submit();
            });
            Turn::new((self.clock)())
        });
        let (Kept::Whole(payload) | Kept::Cut { kept: payload, .. } | Kept::Again { bytes: payload, .. }) =
            record.payload;
        record.received_at_us = self.arrival(turn.received_at_us, payload);
        turn.batch.push(&record);
        let outcome = turn.outcome.clone();
        let full = turn.batch.bytes() >= TURN_BYTES_MAX;
        drop(open);
        if full {
            self.submit();
        }
        outcome
    }

    /// Hands the turn to the journal; one task hears of it and wakes all who wait.
    fn submit(self: &Rc<Worker>) {
        let Some(Turn { batch, outcome, .. }) = self.turn.take() else { return };
        let payloads = batch.len() as u64;
        let answer = self.hand_in(batch);
        let worker = self.clone();
        spawn(async move {
            let synced = match answer.await {
                Ok(Ok(_)) => true,
                Ok(Err(error)) => {
                    tracing::error!(%error, payloads, "payloads are not acknowledged");
                    false
                }
                // Whoever was to tell us is gone, so nothing is known to be on disk.
                Err(_) => false,
            };
            if synced {
                worker.metrics.synced.inc_by(payloads);
            }
            outcome.set(synced);
        });
        // Whoever is to be read next finds it closed, and stands in line.
        self.has_room.set(self.group.has_room());
    }

    fn hand_in(
        &self,
        batch: Batch,
    ) -> oneshot::Receiver<Result<zeugma_journal::Position, zeugma_journal::Error>> {
        let (told, answer) = oneshot::channel();
        self.group.submit(batch, Box::new(move |result| drop(told.send(result))));
        answer
    }

    /// Reads nothing more, answers what was taken, then closes each connection.
    async fn drain(&self) {
        self.closing.set(true);
        wait_until(DRAIN, || self.held.get() == 0).await;
        let sinks = self.guests.take_all();
        sinks.iter().for_each(|sink| sink.close(Farewell::Closing));
        wait_until(CLOSE, || !sinks.iter().any(Sink::is_open)).await;
    }
}

/// Looks until it is so, or the time is over.
async fn wait_until(at_most: Duration, is_so: impl Fn() -> bool) {
    let mut looks_left = at_most.as_millis() / LOOK.as_millis();
    while looks_left > 0 && !is_so() {
        sleep(LOOK).await;
        looks_left -= 1;
    }
}

/// Lets everything that is ready in this thread run first.
pub(super) async fn step_back() {
    let mut stepped = false;
    poll_fn(|context| {
        if stepped {
            return Poll::Ready(());
        }
        stepped = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
