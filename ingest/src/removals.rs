//! Removals of rows, begun one after the other: whoever lets rows go has one of these.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;
use zeugma_lake::{Lease, Table, remove::Removal};

use crate::accept::Known;

/// Begins removals; clones count on together, as their numbers name files.
#[derive(Debug, Clone)]
pub struct Removals {
    known: watch::Receiver<Known>,
    lease: Lease,
    count: Arc<AtomicU64>,
}

impl Removals {
    /// Begins with the first by this holder of the lake.
    pub fn new(known: watch::Receiver<Known>, lease: Lease) -> Removals {
        Removals { known, lease, count: Arc::default() }
    }

    /// The next one, from this table.
    pub fn next(&self, table: &Table) -> Removal {
        Removal {
            table: table.clone(),
            columns: self.known.borrow().columns(table.name()),
            lease: self.lease.clone(),
            number: self.count.fetch_add(1, Ordering::Relaxed),
        }
    }
}
