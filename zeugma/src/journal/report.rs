//! What an inspection adds up.

use std::collections::BTreeMap;

use zeugma_journal::{
    Position, Synced,
    inspect::{Fault, Segment},
};
use zeugma_schemas::topic::Topic;

/// Pairs of tenant and domain that are counted apart: at about 150 bytes each, 1.5 MB. More are one line.
const COUNTED_MAX: usize = 10_000;

/// What stands for a tenant or domain that a record does not name.
const NONE: &str = "-";

/// What is in a journal.
#[derive(Debug, Default)]
pub struct Report {
    /// Whose positions they are.
    pub source: Option<String>,
    /// Its files.
    pub segments: Vec<Segment>,
    /// Records that can be read.
    pub records: u64,
    /// First and last position of them.
    pub positions: Option<(Position, Position)>,
    /// Oldest and newest moment at which one came, microseconds since 1970.
    pub received_at_us: Option<(i64, i64)>,
    /// Records by tenant and domain.
    pub counts: BTreeMap<(String, String), u64>,
}

impl Report {
    /// Adds a block's records.
    pub fn add(&mut self, block: &Synced) {
        for (position, record) in block.records() {
            let (first, _) = self.positions.unwrap_or((position, position));
            self.positions = Some((first, position));
            let at = record.received_at_us;
            let (oldest, newest) = self.received_at_us.unwrap_or((at, at));
            self.received_at_us = Some((oldest.min(at), newest.max(at)));
            self.records += 1;
            let topic = Topic::parse(record.topic);
            let tenant = record.tenant.or(topic.map(|topic| topic.tenant)).unwrap_or(NONE);
            self.count(tenant, topic.map_or(NONE, |topic| topic.domain));
        }
    }

    fn count(&mut self, tenant: &str, domain: &str) {
        let mut pair = (tenant.to_owned(), domain.to_owned());
        if self.counts.len() >= COUNTED_MAX && !self.counts.contains_key(&pair) {
            pair = ("(others)".to_owned(), NONE.to_owned());
        }
        *self.counts.entry(pair).or_default() += 1;
    }

    /// Adds what is known at the end.
    pub fn finish(&mut self, source: Option<String>, segments: Vec<Segment>) {
        (self.source, self.segments) = (source, segments);
    }

    /// The position that the next record gets; none where there is no file.
    pub fn next(&self) -> Option<Position> {
        self.segments.last().map(|segment| segment.next)
    }

    /// What was synced once and cannot be read, with its file.
    pub fn damages(&self) -> impl Iterator<Item = (&Segment, &Fault)> {
        self.faults().filter(|(_, fault)| fault.damage)
    }

    /// The end that was never synced, or is being written at this moment.
    pub fn torn(&self) -> Option<(&Segment, &Fault)> {
        self.faults().find(|(_, fault)| !fault.damage)
    }

    fn faults(&self) -> impl Iterator<Item = (&Segment, &Fault)> {
        self.segments.iter().flat_map(|segment| segment.faults.iter().map(move |fault| (segment, fault)))
    }
}
