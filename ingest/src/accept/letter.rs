//! Dead letters as acceptance writes them: what was refused, with all of the record it stood in.

use std::sync::Arc;

use zeugma_journal::Record;
use zeugma_lake::Position;
use zeugma_schemas::{
    dead_letter::{DeadLetter, Reason},
    payload::Rejected,
    topic::Topic,
};

/// What a dead letter takes from the record it stands in.
pub(super) struct Letter<'a> {
    pub source: Arc<str>,
    pub position: Position,
    pub record: &'a Record<'a>,
}

impl Letter<'_> {
    pub fn whole(&self, reason: Reason, detail: String, bytes: &[u8], index: u32) -> DeadLetter {
        self.of(Rejected { index, reason, detail, bytes })
    }

    pub fn of(&self, rejected: Rejected<'_>) -> DeadLetter {
        let named = Topic::parse(self.record.topic).map(|topic| topic.tenant);
        DeadLetter {
            tenant: self.record.tenant.or(named).map(str::to_owned),
            topic: self.record.topic.to_owned(),
            received_at_us: self.record.received_at_us,
            reason: rejected.reason,
            detail: rejected.detail,
            payload: rejected.bytes.to_vec(),
            payload_bytes: rejected.bytes.len() as i64,
            source: self.source.to_string(),
            position: self.position as i64,
            index: rejected.index.into(),
        }
    }
}
