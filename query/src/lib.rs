//! The reader: answers questions from the lake and the tail, in SQL or by path, over HTTP.
//!
//! The flow of a question, and the files in that order:
//!
//! ```text
//! request -> http ------- Host, path, parameters, Accept
//!              |
//!            grant ------ the tenants that may be seen
//!              |
//!            ask -------- a place among the running questions (places), and a deadline
//!              |
//!            catalog ---- the tables there are
//!              |
//!            session ---- only those tables (schema), only reading: statement, wildcard, table_at; memory; in_front: date_trunc, long_texts
//!              |           plans: what a question means that was asked before
//!              |
//!            table ------ snapshot and tail, joined at the seam: prune, reach, pieces, files, scan; latest_table: one row a device
//!              |
//!            runs ------- what lies in runs is grouped and sorted by them; left_side: joins that may not fit into memory
//!              |
//!            pipelines -- whose question turns out to be long goes on in nobody's way: effort
//!              |
//!            encode ----- batches become JSON, CSV, Arrow or Parquet as they come
//!              |
//! answer <-- problem ---- or the reason why not
//! ```
//!
//! What becomes visible is told as it does by `http/live`, to other processes by `http/feed`.
//!
//! What operators ask of a writer is handed on by [`writer`].
//!
//! Knows the lake and the words, never ingest: what ingest has not committed yet comes through
//! [`seam::Tail`], in process or as [`RemoteTail`].

pub mod ask;
pub mod catalog;
mod date_trunc;
mod dead_letters;
mod effort;
pub mod encode;
pub mod error;
mod files;
pub mod grant;
mod http;
mod in_front;
mod latest_table;
mod left_side;
mod long_texts;
mod memory;
mod pieces;
mod pipelines;
mod places;
mod plans;
mod problem;
mod prune;
mod reach;
pub mod remote_tail;
mod rule;
mod runs;
mod scan;
mod schema;
mod session;
mod statement;
mod table;
mod table_at;
mod wildcard;
pub mod writer;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use zeugma_lake::{Lake, seam};

pub use ask::{Answer, Query, Rows};
pub use error::{Error, ErrorKind};
pub use grant::Grant;
pub use remote_tail::RemoteTail;
pub use writer::Writer;

/// How much one question, and all of them together, may take.
#[derive(Debug, Clone)]
pub struct Config {
    /// Longest time from question to the last byte of its answer.
    pub time_max: Duration,
    /// Rows of one answer; more are for whoever reads the lake's files.
    pub rows_max: usize,
    /// Memory of all running questions together.
    pub memory_bytes_max: usize,
    /// Of it, memory of one question; beyond it uses the disk, as far as it can.
    pub memory_bytes_max_of_one: usize,
    /// Of that, what cannot go to the disk, as the rows that a join keeps. A fifth of all, so that four long questions
    /// leave one to short ones.
    pub stays_bytes_max_of_one: usize,
    /// Memory for what is known of the lake's files, their footers: about 100 kB for a million rows.
    pub metadata_bytes_max: usize,
    /// Disk that all running questions may use when memory is short.
    pub spill_bytes_max: u64,
    /// Questions answered at once; each may use every core, so more only wait for each other.
    pub running_max: usize,
    /// Of these, questions of one tenant.
    pub running_per_tenant_max: usize,
    /// Computing time after which a question counts as long and gives way.
    pub long_after: Duration,
    /// Long questions answered at once.
    pub long_max: usize,
    /// Of these, questions of one tenant.
    pub long_per_tenant_max: usize,
    /// How long a question waits for its turn before it is sent away.
    pub wait_max: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            time_max: Duration::from_secs(60),
            rows_max: 10_000_000,
            memory_bytes_max: 1 << 30,
            memory_bytes_max_of_one: (1 << 30) / 2,
            stays_bytes_max_of_one: (1 << 30) / 5,
            metadata_bytes_max: 128 << 20,
            spill_bytes_max: 4 << 30,
            running_max: 32,
            running_per_tenant_max: 8,
            long_after: Duration::from_millis(100),
            long_max: 4,
            long_per_tenant_max: 2,
            wait_max: Duration::from_secs(10),
        }
    }
}

/// What the reader is given by the program.
#[derive(Clone)]
pub struct Components {
    /// The lake.
    pub lake: Lake,
    /// What ingest has accepted and not committed yet; none to answer from the lake alone.
    pub tail: Option<Arc<dyn seam::Tail>>,
    /// The text of `/metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Reasons why the program is not ready; none when it is.
    pub ready: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Whether the tail is served to other processes: true where it is our own.
    pub serves_tail: bool,
    /// What an operator may have the writer do; none where this process does not write.
    pub writer: Option<Writer>,
}

/// Everything that is answered over HTTP.
///
/// # Panics
/// Where the engine refuses its settings, which do not depend on anything from outside.
pub fn router(components: Components, stopping: CancellationToken) -> axum::Router {
    let query = Query::new(components.lake.clone(), components.tail.clone(), Config::default());
    http::router(components, query.expect("the engine takes the settings it was built with"), stopping)
}

/// Answers requests on a listener until the shutdown; then lets running answers end.
pub async fn serve(
    listener: tokio::net::TcpListener,
    components: Components,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let stopped = shutdown.clone();
    let served = axum::serve(listener, router(components, shutdown.clone()))
        .with_graceful_shutdown(stopped.cancelled_owned());
    tokio::select! {
        served = served => served,
        () = async { shutdown.cancelled().await; tokio::time::sleep(http::GRACE).await } => Ok(()),
    }
}

#[cfg(test)]
mod tests;
