//! What must be found: the journal's records, in order, judged by the rule of identity.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use zeugma_lake::Position;

use super::devices::{Publish, table};

/// Device and time, which identify a reading within its table.
pub type Identity = (usize, i64);

/// The rows of a table, by identity, with their value.
pub type Rows = BTreeMap<Identity, i64>;

/// Remembers what stands in the journal, and what was acknowledged.
#[derive(Debug, Default)]
pub struct Oracle {
    /// Rows of sources that ended with their disk, as far as they were committed.
    settled: BTreeMap<&'static str, Rows>,
    records: BTreeMap<Position, Publish>,
    acknowledged_through: Position,
}

impl Oracle {
    /// Publishes were handed to the journal, the first at this position.
    pub fn attempted(&mut self, first: Position, publishes: &[Publish]) {
        self.records.split_off(&first);
        self.records.extend((first..).zip(publishes.iter().cloned()));
    }

    /// Everything up to this position was acknowledged.
    pub fn acknowledged(&mut self, through: Position) {
        self.acknowledged_through = through;
    }

    /// The journal was opened again and goes on at this position.
    ///
    /// # Errors
    /// Where something acknowledged is not in it any more.
    pub fn reopened(&mut self, next: Position) -> Result<(), String> {
        if next <= self.acknowledged_through {
            return Err(format!(
                "acknowledged through {}, the journal ends before {next}",
                self.acknowledged_through
            ));
        }
        self.records.split_off(&next);
        Ok(())
    }

    /// The disk is another one: what was not committed is gone with it, and nobody can be blamed. A restored
    /// one still has some records, which will be offered again.
    pub fn disk_replaced(&mut self, committed: &BTreeMap<&'static str, Position>, held: Range<Position>) {
        for (name, through) in committed {
            let rows = self.rows_through(name, *through);
            self.settled.insert(name, rows);
        }
        self.records.retain(|position, _| held.contains(position));
        self.acknowledged_through = 0;
    }

    /// The rows that a table must have once everything is decided.
    pub fn rows(&self, name: &str) -> Rows {
        self.rows_through(name, Position::MAX)
    }

    /// The rows of ended sources alone.
    pub fn settled(&self, name: &str) -> Rows {
        self.settled.get(name).cloned().unwrap_or_default()
    }

    fn rows_through(&self, name: &str, through: Position) -> Rows {
        let mut rows = self.settled(name);
        let records = self.records.range(..=through).map(|(_, publish)| publish);
        for publish in records.filter(|publish| !publish.nonsense && table(publish.device) == name) {
            for (time_us, value) in &publish.readings {
                rows.entry((publish.device, *time_us)).or_insert(*value);
            }
        }
        rows
    }

    /// Positions of records that must each have a dead letter.
    pub fn nonsense(&self) -> BTreeSet<Position> {
        let nonsense = self.records.iter().filter(|(_, publish)| publish.nonsense);
        nonsense.map(|(position, _)| *position).collect()
    }
}
