//! Any bytes as a segment's file: opened as documented, and then written to as any other.

use std::fs;

use tempfile::TempDir;
use zeugma_journal::{Batch, Payload, Record, inspect::inspect};

use super::model;

/// A segment is never full here.
const SEGMENT_BYTES_MAX: u64 = 1 << 20;

/// Whatever stands in the file: the journal opens it as its documentation says, or refuses it.
pub fn segment(bytes: &[u8]) {
    let folder = folder();
    let path = folder.path().join(format!("{:020}.journal", 1));
    fs::write(&path, bytes).expect("a segment");
    let found = inspect(folder.path(), |_| true).expect("it can be read");
    let Some(mut journal) = model::open_and_compare(folder.path(), SEGMENT_BYTES_MAX) else {
        assert_eq!(fs::read(&path).expect("the segment"), bytes, "what is refused is left as it is");
        assert!(found[0].faults.iter().any(|fault| fault.damage), "{found:?}");
        return;
    };
    let before = model::records(&journal);
    let mut batch = Batch::default();
    let record = Record { tenant: None, topic: "t", received_at_us: 1, payload: Payload::Whole(b"after") };
    batch.push(&record);
    let next = journal.next();
    assert_eq!(journal.append(&batch).expect("it appends"), next);
    drop(journal);
    let journal = model::open_and_compare(folder.path(), SEGMENT_BYTES_MAX).expect("it opens again");
    let after = [before, vec![(next, model::flat(&record))]].concat();
    assert_eq!((model::records(&journal), journal.next()), (after, next + 1));
}

/// A folder for one run, in memory where the machine has such a place: syncs cost nothing there.
pub(super) fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder")
}
