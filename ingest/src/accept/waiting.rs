//! Late readings that wait for a decision, and from which position on each table waits for one.

use std::collections::BTreeMap;

use zeugma_lake::Position;
use zeugma_schemas::dead_letter;

use super::late::Late;

/// What waits, and what a look-up is deciding now.
#[derive(Default)]
pub(super) struct Waiting {
    /// Readings that no look-up has taken up yet, in journal order.
    readings: Vec<Late>,
    /// The lowest position of each table among them.
    first: BTreeMap<String, Position>,
    /// And among those that a look-up is deciding.
    first_deciding: BTreeMap<String, Position>,
}

impl Waiting {
    /// How many readings no look-up has taken up.
    pub fn len(&self) -> usize {
        self.readings.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.readings.is_empty()
    }

    /// One more.
    pub fn push(&mut self, late: Late) {
        lower(&mut self.first, late.domain.name(), late.position);
        self.readings.push(late);
    }

    /// All of them, for a look-up; [`Waiting::decided`] or [`Waiting::give_back`] must follow before the next.
    pub fn take(&mut self) -> Vec<Late> {
        self.first_deciding = std::mem::take(&mut self.first);
        std::mem::take(&mut self.readings)
    }

    /// The look-up has decided all that it took.
    pub fn decided(&mut self) {
        self.first_deciding.clear();
    }

    /// The look-up has decided nothing, so all of it waits again, before what has come since.
    pub fn give_back(&mut self, mut readings: Vec<Late>) {
        readings.append(&mut self.readings);
        self.readings = readings;
        for (table, first) in std::mem::take(&mut self.first_deciding) {
            lower(&mut self.first, &table, first);
        }
    }

    /// The first position of each table that waits for a decision. A late reading may yet become a row of its
    /// domain's table or a dead letter, so it holds back both.
    pub fn undecided(&self) -> BTreeMap<String, Position> {
        let mut undecided = self.first_deciding.clone();
        for (table, first) in &self.first {
            lower(&mut undecided, table, *first);
        }
        if let Some(first) = undecided.values().min().copied() {
            undecided.insert(dead_letter::TABLE.to_owned(), first);
        }
        undecided
    }
}

/// Lowers a table's entry to a position.
fn lower(positions: &mut BTreeMap<String, Position>, table: &str, position: Position) {
    match positions.get_mut(table) {
        Some(lowest) => *lowest = position.min(*lowest),
        None => drop(positions.insert(table.to_owned(), position)),
    }
}
