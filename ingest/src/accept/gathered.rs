//! What one block adds to the tail, before it does.

use std::sync::Arc;

use zeugma_lake::Position;
use zeugma_schemas::{
    batch::{Builder, Origin},
    dead_letter::DeadLetter,
    domain::Domain,
    payload::Reading,
};

/// What one block adds to the tail.
#[derive(Default)]
pub(super) struct Gathered {
    /// By domain, of which late readings may know an older version. There are few, so they are looked through.
    pub rows: Vec<Rows>,
    /// With the positions of their records, which those of replayed letters do not name themselves.
    pub letters: Vec<(Position, DeadLetter)>,
}

/// Rows of one domain.
pub(super) struct Rows {
    pub domain: Arc<Domain>,
    pub builder: Builder,
    pub positions: Vec<Position>,
}

impl Gathered {
    /// Adds a reading that was accepted, of a record at this position.
    pub fn row(
        &mut self,
        domain: &Arc<Domain>,
        origin: Origin<'_>,
        reading: &Reading<'_>,
        position: Position,
    ) {
        let known = self.rows.iter().position(|rows| Arc::ptr_eq(&rows.domain, domain));
        let at = known.unwrap_or_else(|| {
            let builder = Builder::new(domain.clone());
            self.rows.push(Rows { domain: domain.clone(), builder, positions: Vec::new() });
            self.rows.len() - 1
        });
        let rows = &mut self.rows[at];
        rows.builder.push(origin, reading);
        rows.positions.push(position);
    }
}
