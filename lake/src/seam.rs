//! The seam: where a table's snapshot and its tail meet. Pure; no I/O, no clock.
//!
//! A snapshot knows through which position of a source it holds everything (`committed_through`). The
//! tail answers, from one instant, its batches and the last position it no longer has
//! (`released_through`). Joined, they hold each reading once: the snapshot's files, and the tail's rows
//! beyond `committed_through`. They may be joined only if the snapshot reaches at least as far as the
//! tail has released; otherwise readings would be in neither, and the snapshot must be loaded again.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::future::BoxFuture;

use crate::Error;

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
#[derive(Debug, Clone)]
pub struct TailView {
    /// Journal that the positions belong to, a UUID.
    pub source: String,
    /// The last position of which nothing is here any more.
    pub released_through: Position,
    /// Everything beyond it that was accepted.
    pub batches: Vec<TailBatch>,
}

/// Somebody who knows the tails of all tables: ingest in the same process, or another over HTTP.
pub trait Tail: Send + Sync + std::fmt::Debug {
    /// The tail of a table, from one instant.
    fn view<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<TailView, Error>>;
}

impl TailBatch {
    /// The rows beyond a position.
    pub fn beyond(&self, position: Position) -> RecordBatch {
        let from = self.positions.partition_point(|row| *row <= position);
        self.rows.slice(from, self.rows.num_rows() - from)
    }

    /// The rows up to and including a position.
    pub fn through(&self, position: Position) -> RecordBatch {
        self.rows.slice(0, self.positions.partition_point(|row| *row <= position))
    }
}

/// Joins a tail to a snapshot that holds everything of the tail's source through `committed_through`.
///
/// Answers the rows that the snapshot does not hold; `None` where the two do not meet.
pub fn join(committed_through: Position, tail: &TailView) -> Option<Vec<RecordBatch>> {
    if committed_through < tail.released_through {
        return None;
    }
    let beyond = tail.batches.iter().map(|batch| batch.beyond(committed_through));
    Some(beyond.filter(|rows| rows.num_rows() > 0).collect())
}

#[cfg(test)]
mod tests;
