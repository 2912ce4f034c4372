//! The writer: from MQTT to the lake, one step a file, in the order of a reading's life.
//!
//! ```text
//! door ───────┐
//!             ├─▶ journal ─▶ PUBACK
//! subscriber ─┘      │
//!                    └─▶ accept ─▶ tail ─▶ committer ─▶ lake, then tail and journal let go
//! ```
//!
//! 1. received - [`door`] (an MQTT listener) or [`subscriber`] (any broker's client) takes a payload
//! 2. durable - the journal (its own crate) has it on disk
//! 3. acknowledged - only now the sender is told
//! 4. accepted - [`blocks`] come to [`accept`], which decodes, checks, and decides whether it is new, by
//!    [`watermarks`]
//! 5. visible - [`tail`] shows it to the next query
//! 6. committed - [`committer`] seals it into a file and makes that part of the lake
//! 7. only in the lake - tail and journal forget it
//!
//! Dead letters come back in by [`dead_letters`], and who asked for it waits in [`replays`]. Beside them:
//! [`start`] (journal and lake made to fit), [`source`] (whose positions these are), [`schema_files`] (domains
//! that come while we run), [`maintenance`] (keeps the lease, takes schemas up), [`upkeep`] with [`compactor`]
//! (few files and a short log), [`retention`] (what is too old goes) and [`eraser`] (what is not wanted goes;
//! [`parting`] brings it into one place before, [`blocked`] and [`erased`] keep it out), [`credible_clock`]
//! (whether ours can be believed), [`ingest`] (starts and stops all of it), [`status`], [`metrics`] and
//! [`progress`] (what operators see).

pub mod accept;
pub mod blocked;
pub mod blocks;
mod clock_keeper;
pub mod committer;
pub mod compactor;
pub mod credible_clock;
pub mod dead_letters;
pub mod door;
pub mod erased;
pub mod eraser;
pub mod ingest;
mod maintenance;
pub mod metrics;
pub mod parting;
pub mod progress;
mod removals;
pub mod replays;
pub mod retention;
pub mod schema_files;
pub mod source;
pub mod start;
pub mod status;
pub mod subscriber;
pub mod tail;
pub mod upkeep;
pub mod watermarks;

use std::{path::PathBuf, sync::Arc};

pub use compactor::compact_alone;
pub use ingest::{Config, Ingest};
pub use metrics::Metrics;
pub use status::Status;

/// The time, microseconds since 1970; tests and simulations bring their own.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What can go wrong with the writer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something in the data folder cannot be used.
    #[error("cannot use `{path}`: {problem}")]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The journal fails.
    #[error(transparent)]
    Journal(#[from] zeugma_journal::Error),
    /// The lake fails.
    #[error(transparent)]
    Lake(#[from] zeugma_lake::Error),
    /// The operating system refuses a thread or a socket.
    #[error("cannot start {what}")]
    Start {
        /// What could not be started.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Something is not erased yet, and will be.
    #[error("not everything is erased yet, and it is tried again: {0}")]
    NotErased(&'static str),
    /// One erasure goes after the other.
    #[error("what is being erased must be gone before more is, and it cannot go on: ask again later")]
    NotBegun,
    /// The client of the broker ended.
    #[error("the broker's client ended")]
    Subscriber(#[from] subscriber::Error),
}

/// An error and what is behind it, in one line.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
