//! What one block adds to the tail, before it does; builders are kept for the next, as they know their schema.

use std::sync::Arc;

use arrow::array::RecordBatch;
use zeugma_lake::{Error as LakeError, Position};
use zeugma_schemas::{
    batch::{Builder, Origin},
    dead_letter::{self, DeadLetter},
    domain::{Domain, Domains},
    payload::Reading,
};

/// What one block adds to the tail.
#[derive(Default)]
pub(super) struct Gathered {
    /// What its builders are of.
    domains: Option<Arc<Domains>>,
    /// By domain, of which late readings may know an older version. There are few, so they are looked through.
    rows: Vec<Rows>,
    /// With the positions of their records, which those of replayed letters do not name themselves.
    pub letters: Vec<(Position, DeadLetter)>,
}

/// Rows of one domain.
struct Rows {
    domain: Arc<Domain>,
    builder: Builder,
    positions: Vec<Position>,
}

impl Gathered {
    /// The same for the next block; builders of schemas that were replaced are let go.
    pub fn of(mut self, domains: &Arc<Domains>) -> Gathered {
        if !self.domains.as_ref().is_some_and(|known| Arc::ptr_eq(known, domains)) {
            self.domains = Some(domains.clone());
            self.rows.clear();
        }
        self
    }

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

    /// Hands over what was gathered, by table, with the positions of the records.
    pub fn take(
        &mut self,
        mut put: impl FnMut(&str, RecordBatch, Vec<Position>) -> Result<(), LakeError>,
    ) -> Result<(), LakeError> {
        for Rows { domain, builder, positions } in &mut self.rows {
            if !positions.is_empty() {
                put(domain.name(), builder.finish()?, std::mem::take(positions))?;
            }
        }
        let mut letters = std::mem::take(&mut self.letters);
        if !letters.is_empty() {
            letters.sort_by_key(|(position, _)| *position);
            let (positions, letters): (Vec<_>, Vec<_>) = letters.into_iter().unzip();
            put(dead_letter::TABLE, dead_letter::to_batch(&letters)?, positions)?;
        }
        Ok(())
    }
}
