//! One table's part of the tail: rows in memory, rows that are being sealed, rows that are.

use std::sync::Arc;

use arrow::{compute::concat_batches, datatypes::SchemaRef};
use zeugma_lake::{Error as LakeError, Position, Sealed, seam::TailBatch};

use super::{Cut, SEAL_BYTES};

/// Batches of fewer rows are joined with their neighbours, so that a query meets few.
const SMALL_ROWS: usize = 4_096;

/// A table's rows that are not in the lake yet.
#[derive(Debug)]
pub(super) struct TableTail {
    pub columns: SchemaRef,
    /// In memory.
    pub batches: Vec<TailBatch>,
    /// In memory, while a file is made of them.
    pub sealing: Vec<TailBatch>,
    /// Bytes of both.
    pub bytes: usize,
    pub sealed: Vec<Arc<Sealed>>,
    pub released_through: Position,
    /// The first version of the table whose rows are all still there.
    pub version_min: u64,
    /// The lowest position of a reading of this table that waits for its decision.
    pub undecided: Option<Position>,
}

impl TableTail {
    pub fn in_memory(&self) -> impl Iterator<Item = &TailBatch> {
        self.sealing.iter().chain(&self.batches)
    }

    pub fn rows(&self) -> usize {
        let in_memory: usize = self.in_memory().map(|batch| batch.rows.num_rows()).sum();
        in_memory + self.sealed.iter().map(|sealed| sealed.rows()).sum::<usize>()
    }

    pub fn decided_through(&self, accepted_through: Position) -> Position {
        self.undecided.map_or(accepted_through, |first| accepted_through.min(first - 1))
    }

    /// The lowest position that this table still needs from the journal.
    pub fn first_needed(&self) -> Option<Position> {
        let in_memory = self.in_memory().filter_map(|batch| batch.positions.first().copied());
        let sealed = self.sealed.iter().map(|sealed| *sealed.positions().start());
        in_memory.chain(sealed).chain(self.undecided).min()
    }

    /// Takes the rows up to a position, the first ones of them where they are more than one sealing should have.
    pub fn take_for_sealing(&mut self, through: Position) -> Option<Cut> {
        let (mut left, mut bytes) = (Vec::new(), 0);
        for batch in std::mem::take(&mut self.batches) {
            if bytes >= SEAL_BYTES {
                left.push(batch);
                continue;
            }
            let (taken, kept) = batch.split(through);
            bytes += taken.as_ref().map_or(0, |batch| batch.rows.get_array_memory_size());
            self.sealing.extend(taken);
            left.extend(kept);
        }
        self.batches = left;
        let first = self.sealing.iter().filter_map(|batch| batch.positions.first()).min()?;
        let last = self.sealing.iter().filter_map(|batch| batch.positions.last()).max()?;
        let rows = self.sealing.iter().map(|batch| batch.rows.clone()).collect();
        let more = self.batches.iter().filter_map(|batch| batch.positions.first()).any(|row| *row <= through);
        Some(Cut { columns: self.columns.clone(), rows, positions: *first..=*last, more })
    }

    pub fn release(&mut self, through: Position) {
        self.released_through = self.released_through.max(through);
        self.sealed.retain(|sealed| *sealed.positions().end() > through);
    }

    pub fn count_bytes(&mut self) {
        self.bytes = self.in_memory().map(|batch| batch.rows.get_array_memory_size()).sum();
    }

    /// Joins the last two batches as long as both are small and of one size, so that each row is copied
    /// a logarithmic number of times. Late readings, whose positions lie before, stay by themselves.
    pub fn join_small(&mut self) -> Result<(), LakeError> {
        while let [.., before, last] = self.batches.as_slice() {
            let in_order = before.positions.last() <= last.positions.first();
            let small =
                before.rows.num_rows() <= 2 * last.rows.num_rows() && before.rows.num_rows() < SMALL_ROWS;
            if !(in_order && small && before.rows.schema_ref() == last.rows.schema_ref()) {
                return Ok(());
            }
            let rows = concat_batches(before.rows.schema_ref(), [&before.rows, &last.rows])?;
            let positions = before.positions.iter().chain(last.positions.iter()).copied().collect();
            self.bytes -= before.rows.get_array_memory_size() + last.rows.get_array_memory_size();
            self.bytes += rows.get_array_memory_size();
            self.batches.truncate(self.batches.len() - 2);
            self.batches.push(TailBatch { rows, positions });
        }
        Ok(())
    }
}
