//! Upkeep: what is erased or too old goes, and the tables are compacted, checkpointed and vacuumed, one after the
//! other.
//!
//! In: what commits leave behind, many small files and a long log. Out: the rows that are kept, in few files. One
//! thing is done at a time, so a table's files are never replaced by two at once, and what is heavy of it gives way
//! to everything else, so a busy hour is caught up with in a quiet one.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use zeugma_lake::{
    ErrorKind, Lake, Lease, Table, compact::Progress, erasure::Erasing, gone::Subject, retention::Rules,
    upkeep::QUESTION_MAX,
};

use crate::{
    Clock, Error, Metrics,
    accept::Known,
    blocked::BlockList,
    compactor::Compactor,
    erased::Erased,
    eraser::{Eraser, Unfinished},
    parting::Parting,
    removals::Removals,
    retention::{Retention, RuleBook},
    sentence,
};

/// How often files that nobody needs are looked for: the price is a list of all files of a table.
const VACUUM_EVERY: Duration = Duration::from_secs(3_600);

/// When they are looked for first, after a start: before it versions may have been kept longer, and who has asked for
/// one still reads it.
const VACUUM_AFTER: Duration = QUESTION_MAX;

/// Requests that wait while another is answered; more are sent away.
const REQUESTS_MAX: usize = 4;

/// Reports that whoever asked has not taken yet; later ones are left out until it has.
const REPORTS_MAX: usize = 16;

/// Reports of work that takes long, the last of them of its end; or why it has failed, in a sentence.
pub type Reports<T> = BoxStream<'static, Result<T, String>>;

/// Keeps up the tables of a lake.
#[derive(Debug)]
pub struct Upkeep {
    /// Merges files.
    pub compactor: Compactor,
    /// Erases.
    pub eraser: Eraser,
    /// Lets old rows go.
    pub retention: Retention,
    /// How long versions can be asked for after they were replaced, as `Table::vacuum` has it.
    pub keep: Duration,
    /// Time between two looks at all tables.
    pub every: Duration,
}

/// A lake that is held, and what is known of it.
pub(crate) struct Held {
    pub lake: Lake,
    pub lease: Lease,
    pub known: watch::Receiver<Known>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
}

impl Held {
    /// What looks after its tables; `keep` and `every` as in [`Upkeep`].
    pub fn upkeep(
        self,
        parting: Parting,
        blocked: BlockList,
        erased: Erased,
        keep: Duration,
        every: Duration,
    ) -> Upkeep {
        let Held { lake, lease, known, metrics, clock } = self;
        let removals = Removals::new(known.clone(), lease.clone());
        let compactor = Compactor {
            known: known.clone(),
            lease: lease.clone(),
            clock: clock.clone(),
            count: AtomicU64::new(0),
            metrics: Some(metrics.clone()),
        };
        let retention = Retention {
            removals: removals.clone(),
            parting: parting.clone(),
            known: known.clone(),
            rules: RuleBook::new(lake.clone()),
            clock: clock.clone(),
            metrics: metrics.clone(),
            done: BTreeMap::new(),
        };
        let eraser = Eraser { lake, lease, removals, parting, known, blocked, erased, clock, metrics };
        Upkeep { compactor, eraser, retention, keep, every }
    }
}

/// Somebody wants something now.
#[derive(Debug)]
enum Request {
    /// A table, or all, compacted.
    Compact { table: Option<String>, reports: mpsc::Sender<Result<Progress, String>> },
    /// A tenant or device erased.
    Erase { subject: Subject, and_block: bool, reports: mpsc::Sender<Result<Erasing, String>> },
}

/// Asks a running upkeep for something.
#[derive(Debug, Clone)]
pub struct Asking {
    requests: mpsc::Sender<Request>,
    /// The rules of retention, which it looks up by itself.
    pub rules: RuleBook,
    /// Who is blocked.
    pub blocked: BlockList,
}

impl Asking {
    /// Compacts a table, or all, to one run for each span of dates.
    ///
    /// # Errors
    /// A sentence, where too many are waiting.
    pub fn compact(&self, table: Option<String>) -> Result<Reports<Progress>, String> {
        let (reports, reported) = mpsc::channel(REPORTS_MAX);
        self.send(Request::Compact { table, reports })?;
        Ok(stream_of(reported))
    }

    /// Erases everything of a tenant or device that came up to now.
    ///
    /// # Errors
    /// A sentence, where too many are waiting.
    pub fn erase(&self, subject: Subject, and_block: bool) -> Result<Reports<Erasing>, String> {
        let (reports, reported) = mpsc::channel(REPORTS_MAX);
        self.send(Request::Erase { subject, and_block, reports })?;
        Ok(stream_of(reported))
    }

    fn send(&self, request: Request) -> Result<(), String> {
        let sent = self.requests.try_send(request);
        sent.map_err(|_| {
            "tables are being compacted, or something is being erased; ask again later".to_owned()
        })
    }
}

fn stream_of<T: Send + 'static>(mut reported: mpsc::Receiver<Result<T, String>>) -> Reports<T> {
    stream::poll_fn(move |context| reported.poll_recv(context)).boxed()
}

impl Upkeep {
    /// Looks after the tables for ever, beside whoever asks for something.
    pub fn start(self) -> (impl Future<Output = ()> + Send + use<>, Asking) {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let (rules, blocked) = (self.retention.rules.clone(), self.eraser.blocked.clone());
        let asking = Asking { requests: sender, rules, blocked };
        let first_vacuum = Instant::now() + VACUUM_AFTER;
        let running = Running { upkeep: self, requests, first_vacuum, next_vacuum: BTreeMap::new() };
        (running.run(), asking)
    }
}

/// An upkeep at work.
struct Running {
    upkeep: Upkeep,
    requests: mpsc::Receiver<Request>,
    first_vacuum: Instant,
    /// Of tables that have had one.
    next_vacuum: BTreeMap<String, Instant>,
}

impl Running {
    async fn run(mut self) {
        // What a stop has cut short comes first.
        self.erase_on().await;
        let mut next = Instant::now() + self.upkeep.every;
        loop {
            tokio::select! {
                Some(request) = self.requests.recv() => self.answer(request).await,
                () = tokio::time::sleep_until(next) => {
                    self.look().await;
                    next = Instant::now() + self.upkeep.every;
                }
            }
        }
    }

    /// Looks after all tables once, or until somebody asks for something.
    async fn look(&mut self) {
        let Some(unfinished) = self.erase_on().await else { return };
        let rules = match self.upkeep.retention.rules().await {
            Ok(rules) => rules,
            Err(error) => {
                return tracing::warn!(%error, "the rules of retention cannot be read; trying again");
            }
        };
        let tables = self.upkeep.compactor.known.borrow().tables.clone();
        for (name, table) in tables.iter().filter(|(name, _)| !unfinished.has(name)) {
            match self.look_after(&rules, table).await {
                Ok(()) => {}
                Err(Error::Lake(error)) if error.kind() == ErrorKind::Conflict => {
                    tracing::debug!(table = name, %error, "the upkeep of a table gave way");
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(table = name, error, "the upkeep of a table failed; trying again");
                }
            }
        }
    }

    /// Goes on with erasures; answers from which tables rows are still to go, where the lake tells.
    async fn erase_on(&self) -> Option<Unfinished> {
        let eraser = &self.upkeep.eraser;
        let gone_on = eraser.go_on(&|_: &str| {}).await;
        let failed = |error: &Error| {
            let error = error as &dyn std::error::Error;
            tracing::warn!(error, "erasures cannot go on; trying again");
        };
        gone_on.inspect_err(failed).ok()
    }

    async fn look_after(&mut self, rules: &Rules, table: &Table) -> Result<(), Error> {
        self.upkeep.retention.apply(rules, table).await?;
        let asked = || !self.requests.is_empty();
        self.upkeep.compactor.compact(table, asked).await?;
        if asked() {
            return Ok(());
        }
        // First, as a checkpoint forgets what was replaced long ago.
        let vacuumed = self.vacuum_where_due(table).await;
        let (compactor, keep) = (&self.upkeep.compactor, self.upkeep.keep);
        if table.checkpoint(keep, self.now_ms()).await? {
            compactor.keep_latest(table).await?;
        }
        vacuumed
    }

    async fn vacuum_where_due(&mut self, table: &Table) -> Result<(), Error> {
        if Instant::now() < *self.next_vacuum.get(table.name()).unwrap_or(&self.first_vacuum) {
            return Ok(());
        }
        let files = table.vacuum(&self.upkeep.compactor.lease, self.upkeep.keep, self.now_ms()).await?;
        tracing::debug!(table = table.name(), files, "vacuumed");
        self.next_vacuum.insert(table.name().to_owned(), Instant::now() + VACUUM_EVERY);
        Ok(())
    }

    fn now_ms(&self) -> i64 {
        (self.upkeep.compactor.clock)() / 1_000
    }

    async fn answer(&self, request: Request) {
        match request {
            Request::Compact { table, reports } => {
                // Whoever is slow to read gets fewer reports; the last one waits.
                let report = |progress: &Progress| drop(reports.try_send(Ok(progress.clone())));
                let done = match self.erase_on().await {
                    Some(unfinished) if unfinished.is_none() => {
                        self.upkeep.compactor.compact_to_one_run(table.as_deref(), report).await
                    }
                    _ => {
                        let url = self.upkeep.eraser.lake.store().url().to_string();
                        Err(zeugma_lake::Error::Erasing { url })
                    }
                };
                drop(reports.send(done.map_err(|error| error.to_string())).await);
            }
            Request::Erase { subject, and_block, reports } => {
                let report = |step: &str| drop(reports.try_send(Ok(Erasing::Step(step.to_owned()))));
                let done = self.upkeep.eraser.erase(subject, and_block, report).await;
                let done = done.map(|erasure| Erasing::Done(Box::new(erasure)));
                let failed = |error| {
                    let error = sentence(&error);
                    format!("{error}; zeugma erasures says what is begun, and that is tried again")
                };
                drop(reports.send(done.map_err(failed)).await);
            }
        }
    }
}
