//! A turn: the payloads that arrive in one turn of a worker's loop, submitted once and told of together.
//!
//! Nothing here crosses threads: the worker hears once from the journal and sets the outcome, which wakes
//! whoever waits in this thread.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use zeugma_journal::Batch;

/// Payloads gathered and not yet submitted.
pub(super) struct Turn {
    /// Their records.
    pub batch: Batch,
    /// When the first of them came.
    pub received_at_us: i64,
    /// What becomes of them.
    pub outcome: Rc<Outcome>,
}

impl Turn {
    /// An empty one.
    pub fn new(received_at_us: i64) -> Turn {
        Turn { batch: Batch::default(), received_at_us, outcome: Rc::default() }
    }
}

/// Whether a turn's payloads are on disk, once that is known.
#[derive(Default)]
pub(super) struct Outcome {
    synced: Cell<Option<bool>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Outcome {
    /// Makes it known.
    pub fn set(&self, synced: bool) {
        self.synced.set(Some(synced));
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until it is known.
    pub fn known(self: &Rc<Outcome>) -> Known {
        Known { outcome: self.clone(), at: None }
    }
}

/// See [`Outcome::known`].
pub(super) struct Known {
    outcome: Rc<Outcome>,
    /// Where its waker lies, so that being polled again does not add another.
    at: Option<usize>,
}

impl Future for Known {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        if let Some(synced) = self.outcome.synced.get() {
            return Poll::Ready(synced);
        }
        let outcome = self.outcome.clone();
        let mut waiting = outcome.waiting.borrow_mut();
        match self.at.and_then(|at| waiting.get_mut(at)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                self.at = Some(waiting.len());
                waiting.push(context.waker().clone());
            }
        }
        Poll::Pending
    }
}
