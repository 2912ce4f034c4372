use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{AsArray, RecordBatch, UInt64Array},
    datatypes::{DataType, Field, Schema, UInt64Type},
};
use proptest::prelude::*;

use super::{Position, TailBatch, TailView, join};
use crate::sealed::Sealed;

/// Rows that carry their own number, so that each can be found again.
fn batch(rows: &[(Position, u64)]) -> TailBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("row", DataType::UInt64, false)]));
    let numbers = UInt64Array::from_iter_values(rows.iter().map(|(_, row)| *row));
    let rows_batch = RecordBatch::try_new(schema, vec![Arc::new(numbers)]).unwrap();
    TailBatch { rows: rows_batch, positions: rows.iter().map(|(position, _)| *position).collect() }
}

fn numbers(batches: &[RecordBatch]) -> Vec<u64> {
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<UInt64Type>().values().to_vec()).collect()
}

/// A row's position and its number.
type Row = (Position, u64);

/// A writer and a reader whose steps may come in any order: what the reader joins must be whole.
#[derive(Debug, Clone)]
enum Step {
    /// A record with this many readings becomes visible in the tail.
    Accept(u64),
    /// A late reading is decided after readings of later positions were.
    AcceptLate,
    /// What is in memory is sealed; without pressure only the decided prefix.
    Seal { pressed: bool },
    /// The decided prefix, up to this share of it, is committed; never a part of sealed rows.
    Commit(u8),
    /// The tail gives up what the newest commit holds.
    Release,
    /// All that the lake has goes.
    Erase,
    /// The reader loads the newest snapshot.
    Load,
    /// The reader asks the tail and joins it to the snapshot it has.
    Read,
}

#[derive(Default)]
struct World {
    next: Position,
    rows: u64,
    tail: Vec<TailBatch>,
    sealed: Vec<(Arc<Sealed>, Vec<Row>)>,
    released_through: Position,
    lake: Vec<(Position, u64)>,
    committed_through: Position,
    version: u64,
    version_min: u64,
    /// A position whose reading waits for its decision.
    undecided: Option<Position>,
    all: BTreeSet<u64>,
    cached_lake: Vec<u64>,
    cached_through: Position,
    cached_version: u64,
}

impl World {
    fn put(&mut self, position: Position, count: u64) {
        let rows: Vec<_> = (0..count).map(|index| (position, self.rows + index)).collect();
        self.rows += count;
        self.all.extend(rows.iter().map(|(_, row)| *row));
        self.tail.push(batch(&rows));
    }

    fn decided(&self) -> Position {
        self.undecided.map_or(self.next, |position| position - 1)
    }

    /// Seals all rows in memory up to a position that are not sealed yet.
    fn seal(&mut self, through: Position) {
        let mut rows = Vec::new();
        for held in std::mem::take(&mut self.tail) {
            let all = held.positions.iter().copied().zip(numbers(std::slice::from_ref(&held.rows)));
            let (taken, left): (Vec<_>, Vec<_>) = all.partition(|(position, _)| *position <= through);
            rows.extend(taken);
            if !left.is_empty() {
                self.tail.push(batch(&left));
            }
        }
        let positions = rows.iter().map(|(position, _)| *position);
        if let (Some(low), Some(high)) = (positions.clone().min(), positions.max()) {
            self.sealed.push((Arc::new(Sealed::without_files(low..=high)), rows));
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Accept(count) => {
                self.next += 1;
                self.put(self.next, *count);
            }
            Step::AcceptLate => match self.undecided.take() {
                Some(position) => self.put(position, 1),
                None => {
                    self.next += 1;
                    self.undecided = Some(self.next);
                }
            },
            Step::Seal { pressed } => self.seal(if *pressed { self.next } else { self.decided() }),
            Step::Commit(share) => {
                let from = self.committed_through;
                let mut through = from + (self.decided() - from) * u64::from(*share) / 255;
                self.seal(through);
                while let Some((cut, _)) = self.sealed.iter().find(|(sealed, _)| sealed.is_parted_by(through))
                {
                    through = cut.positions().start() - 1;
                }
                let taken = self.sealed.iter().flat_map(|(_, rows)| rows);
                let taken = taken.filter(|(position, _)| (from + 1..=through).contains(position));
                self.lake.extend(taken);
                self.committed_through = through.max(from);
                self.version += 1;
            }
            Step::Release => {
                self.released_through = self.committed_through;
                let through = self.released_through;
                self.tail.retain(|batch| batch.positions.last().is_some_and(|last| *last > through));
                self.sealed.retain(|(sealed, _)| *sealed.positions().end() > through);
            }
            Step::Erase => {
                for (_, row) in std::mem::take(&mut self.lake) {
                    self.all.remove(&row);
                }
                self.version += 1;
                self.version_min = self.version;
            }
            Step::Load => {
                self.cached_lake = self.lake.iter().map(|(_, row)| *row).collect();
                self.cached_through = self.committed_through;
                self.cached_version = self.version;
            }
            Step::Read => self.read(),
        }
    }

    fn read(&self) {
        let tail = TailView {
            source: "s".into(),
            released_through: self.released_through,
            version_min: self.version_min,
            batches: self.tail.clone(),
            sealed: self.sealed.iter().map(|(sealed, _)| sealed.clone()).collect(),
        };
        match join(self.cached_version, self.cached_through, &tail) {
            None => {
                let gone = self.cached_version < self.version_min;
                assert!(gone || self.cached_through < self.released_through, "refused without need");
            }
            Some(beyond) => {
                let mut found: Vec<u64> = numbers(&beyond.rows);
                for sealed in &beyond.sealed {
                    let rows = self.sealed.iter().find(|(known, _)| Arc::ptr_eq(known, sealed)).unwrap();
                    found.extend(rows.1.iter().map(|(_, row)| *row));
                }
                found.extend(&self.cached_lake);
                found.sort_unstable();
                let all: Vec<u64> = self.all.iter().copied().collect();
                assert_eq!(found, all, "each accepted reading exactly once");
            }
        }
    }
}

proptest! {
    #[test]
    fn every_interleaving_answers_each_reading_exactly_once(
        steps in prop::collection::vec(
            prop_oneof![
                (1u64..4).prop_map(Step::Accept),
                Just(Step::AcceptLate),
                any::<bool>().prop_map(|pressed| Step::Seal { pressed }),
                any::<u8>().prop_map(Step::Commit),
                Just(Step::Release),
                Just(Step::Erase),
                Just(Step::Load),
                Just(Step::Read),
            ],
            1..60,
        )
    ) {
        let mut world = World::default();
        for step in &steps {
            world.step(step);
        }
        world.step(&Step::Load);
        world.read();
    }
}

#[test]
fn snapshot_behind_what_the_tail_released_is_refused() {
    let tail = TailView { released_through: 7, batches: vec![batch(&[(8, 1)])], ..TailView::default() };
    assert!(join(0, 6, &tail).is_none());
    assert_eq!(numbers(&join(0, 7, &tail).unwrap().rows), [1]);
    assert!(join(0, 8, &tail).unwrap().rows.is_empty());
}

#[test]
fn snapshot_of_which_rows_have_gone_is_refused() {
    let tail = TailView { version_min: 3, ..TailView::default() };
    assert!(join(2, 9, &tail).is_none());
    assert!(join(3, 9, &tail).is_some());
}
