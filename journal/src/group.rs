//! The group: one thread that gathers what many submit, syncs once, and tells each.
//!
//! In: batches with a word for whoever waits. Out: the synced batches, in the order of their positions.
//! Promise: nobody is told before its batch is on disk; who was told of a failure may submit again.
//!
//! While one sync runs, everything submitted gathers into the next block, so a slow disk makes larger
//! blocks rather than a longer queue.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use crate::{Batch, Error, Journal, Position, Record, Synced, leaving::Deleter};

/// Bytes that may wait for one sync; beyond it submitters should wait (see [`Group::has_room`]). With a
/// block being written beside it, the journal holds about twice this, plus one batch of each submitter.
pub const WAITING_BYTES_MAX: usize = 64 << 20;

/// How long the thread waits before it tries a full disk again.
const RETRY: Duration = Duration::from_millis(200);

/// Told once its batch is synced, with the position of its first record.
pub type Told = Box<dyn FnOnce(Result<Position, Error>) + Send>;

/// Told whether everything at or before a position is deleted: the files and their names are gone from the disk.
pub type Deleted = Box<dyn FnOnce(bool) + Send>;

/// What the thread does, for whoever watches it; the journal itself has no clock.
#[derive(Debug)]
pub enum Step<'a> {
    /// It writes and syncs a block.
    Begins {
        /// Records in it.
        records: usize,
        /// Bytes of those records.
        bytes: usize,
    },
    /// The disk does not take the block, as one that is full; it will be asked again.
    Refused(&'a Error),
    /// The block is on disk.
    Synced,
    /// It has ended by an error and takes nothing any more.
    Failed(&'a Error),
}

/// A handle of the thread that writes the journal; clones submit to the same one.
#[derive(Clone)]
pub struct Group {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Something to do, for the thread.
    work: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Batch, Told)>,
    waiting_bytes: usize,
    turning: Vec<Told>,
    truncate_through: Option<Position>,
    deleting: Vec<(Position, Deleted)>,
    held: bool,
    closed: bool,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").finish_non_exhaustive()
    }
}

impl Group {
    /// Starts the thread. It hands every synced block to `out`, which may block: that is how a slow
    /// acceptance holds back acknowledgements. It ends when closed and empty, and gives the journal back;
    /// or when `out` says `false`.
    pub fn start(
        journal: Journal,
        out: impl FnMut(Synced) -> bool + Send + 'static,
    ) -> std::io::Result<(Group, JoinHandle<Result<Journal, Error>>)> {
        Self::start_watched(journal, out, |_| ())
    }

    /// As [`Group::start`], with somebody who hears of every step, in the journal's thread.
    pub fn start_watched(
        journal: Journal,
        out: impl FnMut(Synced) -> bool + Send + 'static,
        mut watch: impl FnMut(Step<'_>) + Send + 'static,
    ) -> std::io::Result<(Group, JoinHandle<Result<Journal, Error>>)> {
        let shared = Shared { state: Mutex::default(), work: Condvar::new() };
        let group = Group { shared: Arc::new(shared) };
        let shared = group.shared.clone();
        let deleter = Deleter::start()?;
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || {
            let result = run(&shared, journal, &deleter, out, &mut watch);
            if let Err(error) = &result {
                watch(Step::Failed(error));
            }
            result
        })?;
        Ok((group, thread))
    }

    /// Whether a submission would be taken now; an asynchronous caller waits and asks again.
    pub fn has_room(&self) -> bool {
        let state = self.shared.lock();
        (state.waiting_bytes < WAITING_BYTES_MAX && !state.held) || state.closed
    }

    /// Syncs nothing, and so tells nobody, until [`Group::release`]; there is room for no more meanwhile.
    pub fn hold(&self) {
        self.shared.lock().held = true;
    }

    /// Goes on after [`Group::hold`]. The clock was wrong while records were held, so their arrivals are
    /// moved until the newest is `now_us`, where it lies before that.
    pub fn release(&self, now_us: i64) {
        let mut state = self.shared.lock();
        let newest_us = state.waiting.iter().filter_map(|(batch, _)| batch.newest_arrival_us()).max();
        let by_us = newest_us.map_or(0, |newest_us| now_us.saturating_sub(newest_us));
        if by_us > 0 {
            state.waiting.iter_mut().for_each(|(batch, _)| batch.move_arrivals(by_us));
        }
        state.held = false;
        self.shared.work.notify_one();
    }

    /// Looks at the first records that wait, at most this many.
    pub fn look_at_waiting(&self, records_max: usize, look: impl FnMut(Record<'_>)) {
        let state = self.shared.lock();
        state.waiting.iter().flat_map(|(batch, _)| batch.records()).take(records_max).for_each(look);
    }

    /// Hands in records; `told` is called from the journal's thread, or at once where it is closed.
    pub fn submit(&self, batch: Batch, told: Told) {
        if batch.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        if state.closed {
            drop(state);
            return told(Err(Error::Closed));
        }
        state.waiting_bytes += batch.bytes();
        state.waiting.push_back((batch, told));
        self.shared.work.notify_one();
    }

    /// Hands in records and waits until they are on disk.
    pub fn append(&self, batch: Batch) -> Result<Position, Error> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.submit(batch, Box::new(move |result| drop(sender.send(result))));
        receiver.recv().unwrap_or(Err(Error::Closed))
    }

    /// Begins a segment, so that everything synced before lies in others, which can be deleted as a whole;
    /// `told` of the last position of those, from the journal's thread, or at once where it is closed.
    pub fn turn(&self, told: Told) {
        let mut state = self.shared.lock();
        if state.closed {
            drop(state);
            return told(Err(Error::Closed));
        }
        state.turning.push(told);
        self.shared.work.notify_one();
    }

    /// Lets the journal delete what lies at or before a position.
    pub fn truncate(&self, through: Position) {
        let mut state = self.shared.lock();
        state.truncate_through = state.truncate_through.max(Some(through));
        self.shared.work.notify_one();
    }

    /// As [`Group::truncate`], with somebody who wants to know whether all of it has gone: what lies in one segment
    /// with later records has not, see [`Group::turn`].
    pub fn truncate_surely(&self, through: Position, deleted: Deleted) {
        let mut state = self.shared.lock();
        if state.closed {
            drop(state);
            return deleted(false);
        }
        state.truncate_through = state.truncate_through.max(Some(through));
        state.deleting.push((through, deleted));
        self.shared.work.notify_one();
    }

    /// Takes nothing more; what waits is still synced, then the thread ends.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread does next, in this order.
struct Work {
    append: Vec<(Batch, Told)>,
    turn: Vec<Told>,
    truncate: Option<Position>,
    deleted: Vec<(Position, Deleted)>,
}

fn run(
    shared: &Shared,
    mut journal: Journal,
    deleter: &Deleter,
    mut out: impl FnMut(Synced) -> bool,
    watch: &mut impl FnMut(Step<'_>),
) -> Result<Journal, Error> {
    while let Some(work) = next(shared) {
        if !work.append.is_empty() && !out(append(shared, &mut journal, work.append, watch)?) {
            return Err(fail(shared, Error::Closed));
        }
        if !work.turn.is_empty() {
            let turned = journal.turn_over();
            work.turn.into_iter().for_each(|told| told(turned.as_ref().copied().map_err(again)));
            poisoned(turned).map_err(|error| fail(shared, error))?;
        }
        if let Some(through) = work.truncate {
            match journal.let_go(through) {
                Ok(leaving) => {
                    let is_whole = |deleted: &(Position, Deleted)| journal.first() > deleted.0;
                    let (whole, parted) = work.deleted.into_iter().partition::<Vec<_>, _>(is_whole);
                    parted.into_iter().for_each(|(_, deleted)| deleted(false));
                    deleter.take(leaving, whole.into_iter().map(|(_, deleted)| deleted).collect());
                }
                failed => {
                    work.deleted.into_iter().for_each(|(_, deleted)| deleted(false));
                    poisoned(failed).map_err(|error| fail(shared, error))?;
                }
            }
        }
    }
    Ok(journal)
}

/// Where no segment can be begun there is no room for one; nothing is lost by going on with the old.
fn poisoned<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(Error::Poisoned) => Err(Error::Poisoned),
        _ => Ok(()),
    }
}

/// Waits for something to do; none at the end.
fn next(shared: &Shared) -> Option<Work> {
    let mut state = shared.lock();
    loop {
        if state.held && state.closed {
            // They were never to be told of; whoever sent them sends them again.
            for (_, told) in std::mem::take(&mut state.waiting) {
                told(Err(Error::Closed));
            }
        }
        let append = !state.held && !state.waiting.is_empty();
        if append || !state.turning.is_empty() || state.truncate_through.is_some() {
            let mut work = Work {
                append: Vec::new(),
                turn: std::mem::take(&mut state.turning),
                truncate: state.truncate_through.take(),
                deleted: std::mem::take(&mut state.deleting),
            };
            if append {
                state.waiting_bytes = 0;
                work.append = std::mem::take(&mut state.waiting).into();
            }
            return Some(work);
        }
        if state.closed {
            return None;
        }
        state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// One block of all that waited; whoever submitted is told.
fn append(
    shared: &Shared,
    journal: &mut Journal,
    waiting: Vec<(Batch, Told)>,
    watch: &mut impl FnMut(Step<'_>),
) -> Result<Synced, Error> {
    let mut block = Batch::default();
    waiting.iter().for_each(|(batch, _)| block.append(batch));
    match append_patiently(shared, journal, &block, watch) {
        Ok(first) => {
            watch(Step::Synced);
            let mut position = first;
            for (batch, told) in waiting {
                told(Ok(position));
                position += batch.len() as u64;
            }
            Ok(Synced { first, batch: block })
        }
        Err(error) => {
            waiting.into_iter().for_each(|(_, told)| told(Err(again(&error))));
            Err(fail(shared, error))
        }
    }
}

/// A full disk is waited for: nobody is told, so nobody is acknowledged, until there is room again.
fn append_patiently(
    shared: &Shared,
    journal: &mut Journal,
    block: &Batch,
    watch: &mut impl FnMut(Step<'_>),
) -> Result<Position, Error> {
    watch(Step::Begins { records: block.len(), bytes: block.bytes() });
    loop {
        match journal.append(block) {
            Err(error @ Error::Disk { .. }) if !shared.lock().closed => {
                watch(Step::Refused(&error));
                std::thread::sleep(RETRY);
            }
            result => return result,
        }
    }
}

/// Ends the thread with an error; everybody who still waits is told.
fn fail(shared: &Shared, error: Error) -> Error {
    let mut state = shared.lock();
    state.closed = true;
    let waiting = std::mem::take(&mut state.waiting).into_iter().map(|(_, told)| told);
    let turning = std::mem::take(&mut state.turning);
    waiting.chain(turning).for_each(|told| told(Err(again(&error))));
    std::mem::take(&mut state.deleting).into_iter().for_each(|(_, deleted)| deleted(false));
    error
}

/// The same error for one more listener.
fn again(error: &Error) -> Error {
    match error {
        Error::Closed => Error::Closed,
        Error::Disk { what, path, source } => {
            let source = std::io::Error::new(source.kind(), source.to_string());
            Error::Disk { what, path: path.clone(), source }
        }
        _ => Error::Poisoned,
    }
}

#[cfg(test)]
mod tests;
