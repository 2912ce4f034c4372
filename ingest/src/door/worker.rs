//! A worker: what the connections of one thread share, above all the turn being gathered.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use ntex::{rt::spawn, time::sleep};
use ntex_mqtt::{v3, v5};
use tokio::sync::oneshot;
use zeugma_journal::{Batch, Group, Record};

use super::{
    DRAIN, Parts,
    session::Session,
    turn::{Outcome, Turn},
};
use crate::{Clock, Metrics};

/// A turn is submitted early once it holds this much, so that what a worker adds beyond the journal's own
/// limit is this and one payload.
const TURN_BYTES_MAX: usize = 4 << 20;

/// How often a full journal, or a door that closes, is looked at again.
const LOOK: Duration = Duration::from_millis(5);

/// How long closed connections may take to write what they still have.
const CLOSE: Duration = Duration::from_secs(1);

/// The sending half of a connection, by which it is closed.
pub(super) enum Sink {
    /// MQTT 3.1.1.
    V3(v3::MqttSink),
    /// MQTT 5.
    V5(v5::MqttSink),
}

impl Sink {
    fn is_open(&self) -> bool {
        match self {
            Sink::V3(sink) => sink.is_open(),
            Sink::V5(sink) => sink.is_open(),
        }
    }

    fn close(&self) {
        let reason = v5::codec::DisconnectReasonCode::ServerShuttingDown;
        match self {
            Sink::V3(sink) => sink.close(),
            Sink::V5(sink) => sink.close_with_reason(v5::codec::Disconnect::new(reason)),
        }
    }
}

/// What the connections of one thread share.
pub(super) struct Worker {
    group: Group,
    clock: Clock,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Payloads of one connection that may wait for their sync.
    pub in_flight_max: usize,
    turn: RefCell<Option<Turn>>,
    /// Whether the journal takes more, as last seen.
    has_room: Cell<bool>,
    closing: Cell<bool>,
    /// Payloads that were taken and whose handlers have not answered.
    held: Cell<usize>,
    /// Counts the sessions of all workers.
    begun: Arc<AtomicU64>,
    sessions: RefCell<HashMap<u64, (Weak<Session>, Sink)>>,
}

impl Worker {
    /// One for the current thread, which also waits for the door to close.
    pub fn start(parts: &Parts) -> Rc<Worker> {
        let worker = Rc::new(Worker {
            group: parts.group.clone(),
            clock: parts.clock.clone(),
            metrics: parts.metrics.clone(),
            in_flight_max: parts.config.in_flight_max.into(),
            turn: RefCell::default(),
            has_room: Cell::new(true),
            closing: Cell::default(),
            held: Cell::default(),
            begun: parts.sessions.clone(),
            sessions: RefCell::default(),
        });
        let (closed, mut closing, drained) = (worker.clone(), parts.closing.clone(), parts.drained.clone());
        spawn(async move {
            // An error means that the door was dropped, which closes it as well.
            let _ = closing.wait_for(|closing| *closing).await;
            closed.drain().await;
            let _ = drained.send(());
        });
        worker
    }

    /// Whether connections may be read.
    pub fn is_open(&self) -> bool {
        self.has_room.get() && !self.closing.get()
    }

    /// Begins a session.
    pub fn enter(self: &Rc<Worker>, tenant: Option<String>, sink: Sink) -> Rc<Session> {
        let id = self.begun.fetch_add(1, Ordering::Relaxed);
        let session = Rc::new(Session::new(self.clone(), id, tenant));
        self.sessions.borrow_mut().insert(id, (Rc::downgrade(&session), sink));
        self.metrics.connections.inc();
        session
    }

    /// Ends a session.
    pub fn leave(&self, id: u64) {
        // The sink is dropped after the borrow ends, as dropping it may run the library's code.
        let left = self.sessions.borrow_mut().remove(&id);
        if left.is_some() {
            self.metrics.connections.dec();
        }
    }

    /// Counts a payload that is taken.
    pub fn hold(&self) {
        self.held.set(self.held.get() + 1);
    }

    /// Counts a payload that is answered.
    pub fn release(&self) {
        self.held.set(self.held.get() - 1);
    }

    /// Adds a record to the turn; the time is the turn's.
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
        record.received_at_us = turn.received_at_us;
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
        if self.has_room.get() && !self.group.has_room() {
            self.wait_for_room();
        }
    }

    fn hand_in(
        &self,
        batch: Batch,
    ) -> oneshot::Receiver<Result<zeugma_journal::Position, zeugma_journal::Error>> {
        let (told, answer) = oneshot::channel();
        self.group.submit(batch, Box::new(move |result| drop(told.send(result))));
        answer
    }

    /// Reads from no connection until the journal has room again.
    fn wait_for_room(self: &Rc<Worker>) {
        self.has_room.set(false);
        let worker = self.clone();
        spawn(async move {
            while !worker.group.has_room() && !worker.closing.get() {
                sleep(LOOK).await;
            }
            worker.has_room.set(true);
            let sessions: Vec<_> =
                worker.sessions.borrow().values().map(|(session, _)| session.clone()).collect();
            sessions.iter().filter_map(Weak::upgrade).for_each(|session| session.wake_reader());
        });
    }

    /// Reads nothing more, answers what was taken, then closes each connection.
    async fn drain(&self) {
        self.closing.set(true);
        wait_until(DRAIN, || self.held.get() == 0).await;
        // The handlers borrow the map when their sessions end, so it is not borrowed while closing.
        let sinks: Vec<Sink> = {
            let mut sessions = self.sessions.borrow_mut();
            let ids: Vec<u64> = sessions.keys().copied().collect();
            ids.iter().filter_map(|id| sessions.remove(id)).map(|(_, sink)| sink).collect()
        };
        self.metrics.connections.dec_by(sinks.len() as i64);
        sinks.iter().for_each(Sink::close);
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
async fn step_back() {
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
