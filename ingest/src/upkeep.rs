//! Upkeep: the tables are compacted, checkpointed and vacuumed, one after the other.
//!
//! In: what commits leave behind, many small files and a long log. Out: the same rows in few files. One thing is
//! done at a time, so a table never has two compactions, and what is heavy of it gives way to everything else, so a
//! busy hour is caught up with in a quiet one.

use std::{collections::BTreeMap, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::{sync::mpsc, time::Instant};
use zeugma_lake::{Error, ErrorKind, Table, compact::Progress};

use crate::compactor::Compactor;

/// How often files that nobody needs are looked for: the price is a list of all files of a table.
const VACUUM_EVERY: Duration = Duration::from_secs(3_600);

/// Requests that wait while another is answered; more are sent away.
const REQUESTS_MAX: usize = 4;

/// Reports that whoever asked has not taken yet; later ones are left out until it has.
const REPORTS_MAX: usize = 16;

/// Reports of a compaction, the last of them of its end; or why there is none, in a sentence.
pub type Reports = BoxStream<'static, Result<Progress, String>>;

/// Keeps up the tables of a lake.
#[derive(Debug)]
pub struct Upkeep {
    compactor: Compactor,
    /// How long versions can be read after they were replaced.
    keep: Duration,
    /// Time between two looks at all tables.
    every: Duration,
    requests: mpsc::Receiver<Request>,
    vacuumed: BTreeMap<String, Instant>,
}

/// Somebody wants a table, or all, compacted now.
#[derive(Debug)]
struct Request {
    table: Option<String>,
    reports: mpsc::Sender<Result<Progress, String>>,
}

/// Asks a running upkeep for something.
#[derive(Debug, Clone)]
pub struct Asking {
    requests: mpsc::Sender<Request>,
}

impl Asking {
    /// Compacts a table, or all, to one run for each span of dates.
    ///
    /// # Errors
    /// A sentence, where too many are waiting.
    pub fn compact(&self, table: Option<String>) -> Result<Reports, String> {
        let (reports, mut reported) = mpsc::channel(REPORTS_MAX);
        let sent = self.requests.try_send(Request { table, reports });
        sent.map_err(|_| "tables are being compacted; ask again later".to_owned())?;
        Ok(stream::poll_fn(move |context| reported.poll_recv(context)).boxed())
    }
}

impl Upkeep {
    /// The upkeep of a lake: `keep` as `Table::vacuum` has it, and the time between two looks.
    pub fn new(compactor: Compactor, keep: Duration, every: Duration) -> (Upkeep, Asking) {
        let (asking, requests) = mpsc::channel(REQUESTS_MAX);
        let upkeep = Upkeep { compactor, keep, every, requests, vacuumed: BTreeMap::new() };
        (upkeep, Asking { requests: asking })
    }

    /// Looks after the tables, for ever.
    pub async fn run(mut self) {
        let mut next = Instant::now() + self.every;
        loop {
            tokio::select! {
                Some(request) = self.requests.recv() => self.answer(request).await,
                () = tokio::time::sleep_until(next) => {
                    self.look().await;
                    next = Instant::now() + self.every;
                }
            }
        }
    }

    /// Looks after all tables once, or until somebody asks for something.
    async fn look(&mut self) {
        let tables = self.compactor.known.borrow().tables.clone();
        for (name, table) in tables.iter() {
            match self.look_after(table).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    tracing::debug!(table = name, %error, "a compaction gave way");
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(table = name, error, "the upkeep of a table failed; trying again");
                }
            }
        }
    }

    async fn look_after(&mut self, table: &Table) -> Result<(), Error> {
        let asked = || !self.requests.is_empty();
        self.compactor.compact(table, asked).await?;
        let now_ms = || (self.compactor.clock)() / 1_000;
        if table.checkpoint(self.keep, now_ms()).await? {
            self.compactor.keep_latest(table).await?;
        }
        let vacuumed = self.vacuumed.get(table.name());
        if !asked() && vacuumed.is_none_or(|at| at.elapsed() >= VACUUM_EVERY) {
            let files = table.vacuum(&self.compactor.lease, self.keep, now_ms()).await?;
            tracing::debug!(table = table.name(), files, "vacuumed");
            self.vacuumed.insert(table.name().to_owned(), Instant::now());
        }
        Ok(())
    }

    async fn answer(&self, Request { table, reports }: Request) {
        // Whoever is slow to read gets fewer reports; the last one waits.
        let report = |progress: &Progress| drop(reports.try_send(Ok(progress.clone())));
        let done = self.compactor.compact_to_one_run(table.as_deref(), report).await;
        drop(reports.send(done.map_err(|error| error.to_string())).await);
    }
}
