//! The seam: where a table's snapshot and its tail meet. Pure; no I/O, no clock.
//!
//! A snapshot knows through which position of a source it holds everything (`committed_through`). The tail answers,
//! from one instant, its batches and the last position it no longer has (`released_through`). Joined, they hold each
//! reading once: the snapshot's files, and the tail's rows, in memory or sealed, beyond `committed_through`. They may
//! be joined only if the snapshot reaches at least as far as the tail has released; otherwise readings would be in
//! neither, and the snapshot must be loaded again. So it must where rows of its version have gone since, erased or
//! too old.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{future::BoxFuture, stream::BoxStream};

use crate::{Error, sealed::Sealed};

/// A place in a source's journal: the number of a record, from 1. Zero is before the first.
pub type Position = u64;

/// Rows of one table that are durable but not in the lake yet, with the position each came by.
#[derive(Debug, Clone)]
pub struct TailBatch {
    /// The rows, in the table's columns.
    pub rows: RecordBatch,
    /// The position of each row; they never fall.
    pub positions: Arc<[Position]>,
}

/// A table's tail, as it was at one instant.
#[derive(Debug, Clone, Default)]
pub struct TailView {
    /// Journal that the positions belong to, a UUID.
    pub source: String,
    /// The last position of which nothing is here any more.
    pub released_through: Position,
    /// The first version whose rows are all still there.
    pub version_min: u64,
    /// What of it is in memory.
    pub batches: Vec<TailBatch>,
    /// What of it is sealed.
    pub sealed: Vec<Arc<Sealed>>,
}

/// The part of a tail that a snapshot does not hold.
#[derive(Debug, Clone, Default)]
pub struct Beyond {
    /// Rows in memory, in no particular order.
    pub rows: Vec<RecordBatch>,
    /// Sealed rows.
    pub sealed: Vec<Arc<Sealed>>,
}

/// What becomes visible, at the moment it does.
#[derive(Debug, Clone)]
pub enum News {
    /// Where a table stands as somebody begins to follow it.
    Begin {
        /// The table.
        table: String,
        /// Journal that the positions belong to, a UUID.
        source: String,
        /// All of the table that came by this position became visible before, or never will.
        through: Position,
    },
    /// Rows of a table.
    Rows {
        /// The table.
        table: String,
        /// Journal that the positions belong to, a UUID.
        source: String,
        /// The rows; those of late readings may have lower positions than rows before them.
        batch: TailBatch,
        /// All of the table that came by this position is visible with these rows, or never will be.
        through: Position,
    },
    /// Whoever follows was too slow, and rows were left out.
    Missed,
}

/// News as they come.
pub type Feed = BoxStream<'static, Result<News, Error>>;

/// Somebody who knows the tails of all tables: ingest in the same process, or another over HTTP.
pub trait Tail: Send + Sync + std::fmt::Debug {
    /// The tail of a table, from one instant.
    fn view<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<TailView, Error>>;

    /// What becomes visible in some tables from now on, after a [`News::Begin`] for each.
    fn follow<'a>(&'a self, tables: &'a [String]) -> BoxFuture<'a, Result<Feed, Error>>;
}

impl TailBatch {
    /// The rows beyond a position.
    pub fn beyond(&self, position: Position) -> RecordBatch {
        let from = self.positions.partition_point(|row| *row <= position);
        self.rows.slice(from, self.rows.num_rows() - from)
    }

    /// The rows up to and including a position, and those beyond; either only where there are some.
    pub fn split(self, position: Position) -> (Option<TailBatch>, Option<TailBatch>) {
        let at = self.positions.partition_point(|row| *row <= position);
        if at == 0 || at == self.positions.len() {
            return if at == 0 { (None, Some(self)) } else { (Some(self), None) };
        }
        let part = |from: usize, to: usize| TailBatch {
            rows: self.rows.slice(from, to - from),
            positions: self.positions[from..to].into(),
        };
        (Some(part(0, at)), Some(part(at, self.positions.len())))
    }
}

/// Joins a tail to a snapshot of this version that holds everything of the tail's source through `committed_through`.
///
/// Answers what the snapshot does not hold; `None` where the two do not meet.
pub fn join(version: u64, committed_through: Position, tail: &TailView) -> Option<Beyond> {
    // No commit parts sealed rows; a snapshot that seems to is of another history.
    let parted = tail.sealed.iter().any(|sealed| sealed.is_parted_by(committed_through));
    if version < tail.version_min || committed_through < tail.released_through || parted {
        return None;
    }
    let rows = tail.batches.iter().map(|batch| batch.beyond(committed_through));
    let sealed = tail.sealed.iter().filter(|sealed| sealed.lies_beyond(committed_through));
    Some(Beyond {
        rows: rows.filter(|rows| rows.num_rows() > 0).collect(),
        sealed: sealed.cloned().collect(),
    })
}

#[cfg(test)]
mod tests;
