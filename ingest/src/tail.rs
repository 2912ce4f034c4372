//! The tail: readings that are durable and accepted, but not in the lake yet.
//!
//! In: rows from acceptance, each with its position. Out: what a query sees beyond its snapshot, and what
//! the next commit takes. Promise: from one instant, rows and `released_through` always fit together, and
//! a row leaves only when the commit that holds it is known.
//!
//! Rows are in memory first; then they are sealed into local files, and these are what a commit takes. So
//! memory has a limit however long the lake is away.

mod table;
mod view;

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arrow::{array::RecordBatch, compute::filter_record_batch, datatypes::SchemaRef};
use tokio::sync::{Notify, broadcast};
use zeugma_lake::{
    Error as LakeError, Position, Sealed,
    find::{self, Sought},
    layout,
    seam::{News, TailBatch},
};

use crate::metrics::{Metrics, of};
use table::TableTail;

/// A table's rows in memory are sealed before their time when they take this much, and so many at once: a file of
/// them has about 3.5 MB. Sealing holds two more copies of them for a moment: joined and in order, or in order and encoded.
pub const SEAL_BYTES: usize = 32 << 20;

/// Acceptance waits while the rows in memory of all tables together take more: eight tables at
/// [`SEAL_BYTES`], or one that disk or processor cannot seal as quickly as it grows.
pub const TAIL_BYTES_MAX: usize = 256 << 20;

/// Batches that wait for those who follow: at most 4,096 rows of some 150 bytes each, 40 MB. Who is slower misses
/// some.
const NEWS_MAX: usize = 64;

/// The tails of all tables of one source; clones are the same tails.
#[derive(Debug, Clone)]
pub struct Tail {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    source: String,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Something is large enough to be sealed at once.
    full: Notify,
    /// Something was released.
    released: Notify,
    /// Somebody waits for a commit.
    wanted: Notify,
    /// Rows as they become visible, for those who follow.
    news: broadcast::Sender<News>,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<String, TableTail>,
    /// Everything at or before it has been through acceptance, but for what is undecided.
    accepted_through: Position,
    end: End,
}

/// Where commits end for now, as something is being erased; readings go on being accepted, shown and sealed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    /// At the last decided reading, as ever.
    #[default]
    Decided,
    /// At this position, and not beyond it.
    At(Position),
}

/// How far a sealing reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To the first undecided reading, as the next commit will.
    Decided,
    /// To the last accepted one; what is decided later will be sealed by itself.
    Accepted,
}

/// Rows of a table that are to be sealed.
#[derive(Debug)]
pub struct Cut {
    /// The table's columns.
    pub columns: SchemaRef,
    /// Its rows, at least one.
    pub rows: Vec<RecordBatch>,
    /// Their lowest and highest position.
    pub positions: RangeInclusive<Position>,
    /// Whether rows were left that the sealing reaches, as they are too many for one.
    pub more: bool,
}

/// What the next commit of a table takes.
#[derive(Debug)]
pub struct Due {
    /// Sealed rows, at least some.
    pub rows: Vec<Arc<Sealed>>,
    /// Everything decided through this position is among them, or in the lake.
    pub through: Position,
}

/// Rows found by their keys.
#[derive(Debug)]
pub struct Found {
    /// The rows, in the table's columns.
    pub rows: Vec<RecordBatch>,
    /// What the tail no longer has, at the instant of the search: a snapshot must reach as far.
    pub released_through: Position,
}

impl State {
    /// The last position through which all of a table is decided.
    fn decided_through(&self, table: &str) -> Position {
        self.tables
            .get(table)
            .map_or(self.accepted_through, |tail| tail.decided_through(self.accepted_through))
    }
}

impl Tail {
    /// Empty tails of a source.
    pub fn new(source: &str, metrics: Arc<Metrics>) -> Tail {
        let shared = Shared {
            source: source.to_owned(),
            metrics,
            state: Mutex::default(),
            full: Notify::new(),
            released: Notify::new(),
            wanted: Notify::new(),
            news: broadcast::Sender::new(NEWS_MAX),
        };
        Tail { shared: Arc::new(shared) }
    }

    /// The source whose positions these are.
    pub fn source(&self) -> &str {
        &self.shared.source
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held would be a mistake of ours between two whole states.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a table known, or gives it wider columns; the lake holds it through `committed_through`.
    pub fn ensure(&self, table: &str, columns: &SchemaRef, committed_through: Position) {
        let mut state = self.state();
        let tail = state.tables.entry(table.to_owned()).or_insert_with(|| TableTail {
            columns: columns.clone(),
            batches: Vec::new(),
            sealing: Vec::new(),
            bytes: 0,
            sealed: Vec::new(),
            released_through: committed_through,
            version_min: 0,
            undecided: None,
        });
        tail.columns = columns.clone();
        self.shared.metrics.table(table);
    }

    /// Adds accepted rows with their positions, which never fall.
    ///
    /// # Errors
    /// [`LakeError::NoTable`] where the table was never made known.
    pub fn append(&self, table: &str, rows: RecordBatch, positions: Vec<Position>) -> Result<(), LakeError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        debug_assert_eq!(rows.num_rows(), positions.len());
        let mut state = self.state();
        let tail =
            state.tables.get_mut(table).ok_or_else(|| LakeError::NoTable { table: table.to_owned() })?;
        tail.bytes += rows.get_array_memory_size();
        self.shared.metrics.tail_rows.get_or_create(&of(table)).inc_by(rows.num_rows() as i64);
        let batch = TailBatch { rows, positions: positions.into() };
        if self.shared.news.receiver_count() > 0 {
            let (table, source) = (table.to_owned(), self.shared.source.clone());
            let through = tail.decided_through(batch.positions[batch.positions.len() - 1]);
            // Nobody left since is no trouble.
            drop(self.shared.news.send(News::Rows { table, source, batch: batch.clone(), through }));
        }
        tail.batches.push(batch);
        tail.join_small()?;
        self.shared.metrics.tail_bytes.get_or_create(&of(table)).set(tail.bytes as i64);
        if tail.bytes >= SEAL_BYTES {
            self.shared.full.notify_one();
        }
        Ok(())
    }

    /// Says which tables have readings that wait for a decision, before rows are added that came after these.
    pub fn undecided(&self, undecided: &BTreeMap<String, Position>) {
        let mut state = self.state();
        for (name, first) in undecided {
            if let Some(tail) = state.tables.get_mut(name) {
                tail.undecided = Some(tail.undecided.map_or(*first, |known| known.min(*first)));
            }
        }
    }

    /// Says how far acceptance has come, and which tables have readings that wait for a decision.
    pub fn decided(&self, accepted_through: Position, undecided: &BTreeMap<String, Position>) {
        let mut state = self.state();
        state.accepted_through = accepted_through;
        for (name, tail) in &mut state.tables {
            tail.undecided = undecided.get(name).copied();
        }
    }

    /// How far acceptance has come.
    pub fn accepted_through(&self) -> Position {
        self.state().accepted_through
    }

    /// The names of all tables.
    pub fn tables(&self) -> Vec<String> {
        self.state().tables.keys().cloned().collect()
    }

    /// Which tables have so many rows in memory that they should be sealed now.
    pub fn large_tables(&self) -> Vec<String> {
        let state = self.state();
        let large = state.tables.iter().filter(|(_, tail)| tail.bytes >= SEAL_BYTES);
        large.map(|(name, _)| name.clone()).collect()
    }

    /// How many sealings of a table no commit has taken yet.
    pub fn sealings(&self, table: &str) -> usize {
        self.state().tables.get(table).map_or(0, |tail| tail.sealed.len())
    }

    /// Takes rows out for sealing, which are seen by queries as before; `None` where there are none, or
    /// others are being sealed. [`Tail::seal_done`] must follow.
    pub fn seal(&self, table: &str, reach: Reach) -> Option<Cut> {
        let mut state = self.state();
        let (accepted_through, end) = (state.accepted_through, state.end);
        let tail = state.tables.get_mut(table).filter(|tail| tail.sealing.is_empty())?;
        let through = match reach {
            Reach::Decided => tail.decided_through(accepted_through),
            Reach::Accepted => accepted_through,
        };
        match end {
            End::Decided => tail.take_for_sealing(through),
            // What a commit may take and what it may not never lie in one file.
            End::At(end) => {
                tail.take_for_sealing(through.min(end)).or_else(|| tail.take_for_sealing(through))
            }
        }
    }

    /// Says what became of the rows that were taken out: sealed, or in memory still.
    pub fn seal_done(&self, table: &str, sealed: Option<Sealed>) {
        let mut state = self.state();
        let Some(tail) = state.tables.get_mut(table) else { return };
        let taken = std::mem::take(&mut tail.sealing);
        match sealed {
            Some(sealed) => tail.sealed.push(Arc::new(sealed)),
            // In their order, so that what follows is joined with them.
            None => drop(tail.batches.splice(0..0, taken)),
        }
        tail.count_bytes();
        self.shared.metrics.tail_bytes.get_or_create(&of(table)).set(tail.bytes as i64);
        drop(state);
        self.shared.released.notify_waiters();
    }

    /// What the next commit of a table takes, after everything that is decided was sealed; `None` where
    /// that is nothing.
    pub fn due(&self, table: &str) -> Option<Due> {
        let state = self.state();
        let tail = state.tables.get(table).filter(|tail| tail.sealing.is_empty())?;
        let mut through = match state.end {
            End::Decided => tail.decided_through(state.accepted_through),
            End::At(end) => tail.decided_through(state.accepted_through).min(end),
        };
        let unsealed = tail.batches.iter().filter_map(|batch| batch.positions.first());
        through = through.min(unsealed.min().map_or(Position::MAX, |first| first - 1));
        // A commit takes sealed rows whole or not at all.
        while let Some(cut) = tail.sealed.iter().find(|sealed| sealed.is_parted_by(through)) {
            through = cut.positions().start() - 1;
        }
        let rows = tail.sealed.iter().filter(|sealed| *sealed.positions().end() <= through);
        let rows: Vec<_> = rows.cloned().collect();
        (!rows.is_empty()).then_some(Due { rows, through })
    }

    /// Gives up what the lake now holds.
    pub fn release(&self, table: &str, through: Position) {
        let mut state = self.state();
        if let Some(tail) = state.tables.get_mut(table) {
            let before = tail.rows();
            tail.release(through);
            let released = before - tail.rows();
            self.shared.metrics.tail_rows.get_or_create(&of(table)).dec_by(released as i64);
        }
        self.shared.released.notify_waiters();
    }

    /// The last position of which no table needs the journal any more.
    pub fn safe_through(&self) -> Position {
        let state = self.state();
        let needed = state.tables.values().filter_map(TableTail::first_needed).min();
        needed.map_or(state.accepted_through, |first| state.accepted_through.min(first - 1))
    }

    /// Says that rows of a table have gone by a version: no question may be answered from an earlier one.
    pub fn gone_by(&self, table: &str, version: u64) {
        if let Some(tail) = self.state().tables.get_mut(table) {
            tail.version_min = version.max(tail.version_min);
        }
    }

    /// Says where commits end for now.
    pub fn end_commits(&self, end: End) {
        self.state().end = end;
    }

    /// Where commits end.
    pub fn end(&self) -> End {
        self.state().end
    }

    /// Wants everything committed that can be, as soon as possible.
    pub fn commit_soon(&self) {
        self.shared.wanted.notify_one();
    }

    /// Waits until somebody wants a commit.
    pub async fn wanted(&self) {
        self.shared.wanted.notified().await;
    }

    /// Waits until some table's rows in memory should be sealed before their time.
    pub async fn full(&self) {
        self.shared.full.notified().await;
    }

    /// Waits until there is room for more.
    pub async fn room(&self) {
        loop {
            let released = self.shared.released.notified();
            let bytes: usize = self.state().tables.values().map(|tail| tail.bytes).sum();
            if bytes < TAIL_BYTES_MAX {
                return;
            }
            self.shared.full.notify_one();
            released.await;
        }
    }

    /// Rows that have one of these keys.
    pub async fn find(&self, table: &str, sought: &Arc<Sought>) -> Result<Found, LakeError> {
        let (batches, sealed, columns, released_through) = {
            let state = self.state();
            let tail =
                state.tables.get(table).ok_or_else(|| LakeError::NoTable { table: table.to_owned() })?;
            let batches: Vec<_> = tail.in_memory().cloned().collect();
            (batches, tail.sealed.clone(), tail.columns.clone(), tail.released_through)
        };
        let mut rows = Vec::new();
        for batch in &batches {
            let found = sought.matching(&batch.rows)?;
            if found.true_count() > 0 {
                rows.push(layout::conform(&filter_record_batch(&batch.rows, &found)?, &columns)?);
            }
        }
        for sealed in &sealed {
            rows.extend(find::find(&sealed.store(), sealed.files(), &columns, sought).await?);
        }
        Ok(Found { rows, released_through })
    }
}

#[cfg(test)]
mod tests;
