//! The journal: every payload is on disk here before anybody is told that it arrived.
//!
//! ```text
//! submit ─▶ group ─▶ block ─▶ segment file ─▶ fdatasync ─▶ the submitter is told, and so is acceptance
//! ```
//!
//! - [`record`] - one payload: whose, from which topic, when
//! - [`block`] - the records of one sync, under one checksum
//! - [`segment`] - a file of blocks
//! - [`disk`] - the folder they lie in
//! - [`log`] - the segments of a folder: open, append, replay, truncate
//! - `leaving` - segments that are let go, and the thread that deletes them
//! - [`group`] - the thread that gathers what many submit, syncs once, and tells each
//! - [`inspect`] - what lies in a folder, for people: reads only, also what is damaged
//! - [`mend`] - makes a damaged folder one that opens, without what cannot be read
//!
//! A position is the number of a record, from 1; it is 64 bits and never starts again, as an empty
//! segment's header still says which position comes next.
//!
//! Since a block is synced before the next is written, damage is told apart exactly: a bad block with
//! nothing good behind it was never synced, so never acknowledged, and is cut off; a bad block before a
//! good one was synced once, and opening fails with the file and the place.

pub mod block;
pub mod disk;
pub mod group;
pub mod inspect;
mod leaving;
pub mod log;
pub mod mend;
pub mod record;
pub mod segment;

use std::path::PathBuf;

pub use block::{Batch, Synced};
pub use disk::{Disk, Folder};
pub use group::{Group, Step};
pub use log::{Journal, Recovery};
pub use record::{Payload, Record};

/// The number of a record, from 1; zero is before the first.
pub type Position = u64;

/// What can go wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the folder open.
    #[error(
        "the data folder `{path}` is in use by another process: stop that one, or give this one another --data"
    )]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The disk does not do what it was asked.
    #[error("cannot {what} `{path}`")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A sync failed before, so nothing that this journal says can be trusted: the process must start again.
    #[error("a sync of the journal failed; start the process again")]
    Poisoned,
    /// Another version of the program has written here.
    #[error("segment `{path}` has format {found}, this program reads {known}: use the program that wrote it")]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format this program knows.
        known: u32,
    },
    /// Something that was synced cannot be read any more.
    #[error(
        "segment `{path}` is damaged at byte {at}: {problem}. `zeugma journal inspect` shows what can be read; \
         `zeugma journal mend` keeps the file aside and gives up the rest"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong there.
        problem: &'static str,
    },
    /// The journal has been closed.
    #[error("the journal is closed")]
    Closed,
}

impl Error {
    pub(crate) fn disk(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Disk { what, path, source }
    }
}
