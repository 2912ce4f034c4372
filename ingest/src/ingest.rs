//! Starts and stops the writer: opens journal and lake, replays what is not in the lake, opens the doors.

use std::{
    net::TcpListener,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use futures::FutureExt;
use tokio::{sync::watch, task::JoinHandle as Task};
use tokio_util::sync::CancellationToken;
use zeugma_journal::{Group, Journal, Step, Synced};
use zeugma_lake::{Error as LakeError, ErrorKind, Lake, Lease, Position, Shelf};

use crate::{
    Clock, Error, Metrics, Status,
    blocked::BlockList,
    blocks::{self, blocks},
    clock_keeper::ClockKeeper,
    committer::Committer,
    dead_letters::DeadLetters,
    door::{self, Door},
    erased::Erased,
    maintenance::{keep_lease, watch_schemas},
    parting::Parting,
    replays::Replays,
    schema_files::SchemaFiles,
    start::{Opened, Steps},
    subscriber::{self, Subscriber},
    tail::Tail,
    upkeep::{self, Held},
};

/// How long a start waits until readings of before are visible again. A full hour of replay needs about a
/// minute; after this time the lake is away, and devices should not have to wait for it.
const CATCH_UP_MAX: Duration = Duration::from_secs(120);

/// Shutdown commits what it can in this time; the rest stays in the journal. With [`RELEASE_MAX`] it ends
/// within ten seconds.
const STOP_MAX: Duration = Duration::from_secs(8);

/// How long the lake may take to hear that its lease is given up; without it the lease runs out by itself.
const RELEASE_MAX: Duration = Duration::from_secs(1);

/// What the writer is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of the journal.
    pub data: PathBuf,
    /// Folder of more schemas, looked at while running.
    pub schemas: Option<PathBuf>,
    /// A broker to subscribe to, beside the door.
    pub broker: Option<subscriber::Config>,
    /// How long rows may wait for a commit.
    pub commit_interval: Duration,
    /// How long a version of a table can be read after it was replaced.
    pub keep_versions: Duration,
    /// The operator says that this machine's clock is right, whatever devices say.
    pub trust_clock: bool,
    /// How much devices may take.
    pub limits: door::Limits,
}

/// A running writer.
#[derive(Debug)]
pub struct Ingest {
    tail: Tail,
    metrics: Arc<Metrics>,
    dead_letters: DeadLetters,
    upkeep: upkeep::Asking,
    source: String,
    door: Option<Door>,
    subscriber: Option<Subscriber>,
    journal: Group,
    journal_thread: Option<GroupThread>,
    acceptor: Task<Result<(), LakeError>>,
    committer: Task<(Committer, Result<(), LakeError>)>,
    lease: Lease,
    keepers: Vec<Task<()>>,
    stop: CancellationToken,
    failed: watch::Receiver<Option<String>>,
}

impl Ingest {
    /// Starts the writer. When it answers, what the journal held has been handed to acceptance, and the
    /// door is open.
    ///
    /// # Errors
    /// Where data folder or lake cannot be used, or belong to another running process.
    pub async fn start(
        config: Config,
        lake: Lake,
        listener: Option<TcpListener>,
        clock: Clock,
    ) -> Result<Ingest, Error> {
        let metrics = Arc::new(Metrics::new(clock.clone()));
        let mut schema_files = config.schemas.as_deref().map(SchemaFiles::new);
        let journal = open_journal(&config.data).await?;
        let opened = Opened::open(journal, &config.data, &lake, schema_files.as_mut(), &clock).await?;
        let shelf = Shelf::open(&config.data.join("sealed"), &opened.lease)?;
        let Steps { acceptor, tail, known } = opened.steps(&metrics).await?;
        let (handed, blocks) = blocks();
        let replays = Replays::default();
        let acceptor = acceptor.telling(replays.clone());
        let (fail, failed) = watch::channel(None);
        let stop = CancellationToken::new();
        let acceptor = tokio::spawn(reporting(fail.clone(), "acceptance", acceptor.run(blocks)));
        metrics.watch_folder(&config.data);
        let (replayed, last) = replay(opened.replay(), handed.clone(), metrics.clone()).await?;
        let Opened { journal, source, lease, erasures, .. } = opened;
        caught_up(&tail, &metrics, last).await;
        tracing::info!(source, records = replayed, "journal open");
        let (journal, journal_thread) = start_group(journal, handed, metrics.clone(), fail.clone())?;
        let (erased, block_list) = (Erased::of(&erasures), BlockList::open(&lake).await?);
        let blocked = block_list.blocked.clone();
        let dead_letters =
            DeadLetters::new(journal.clone(), replays, erased.clone(), blocked.clone(), clock.clone());
        let forgetting = journal.clone();
        let committer = Committer {
            tail: tail.clone(),
            known: known.subscribe(),
            shelf: Arc::new(shelf),
            forget: Arc::new(move |through| forgetting.truncate(through)),
            lease: lease.clone(),
            interval: config.commit_interval,
            metrics: metrics.clone(),
            clock: clock.clone(),
        };
        let committer = tokio::spawn(run_committer(committer, stop.clone(), fail.clone()));
        let mut keepers = vec![tokio::spawn(keep_lease(lease.clone(), clock.clone(), fail.clone()))];
        let keeper = ClockKeeper {
            clock: clock.clone(),
            journal: journal.clone(),
            metrics: metrics.clone(),
            known: known.subscribe(),
            holds: false,
        };
        keepers.push(keep_clock(keeper, config.trust_clock));
        lake.keep_versions(config.keep_versions).await?;
        let parting = Parting { tail: tail.clone(), journal: journal.clone() };
        let held = Held {
            lake: lake.clone(),
            lease: lease.clone(),
            known: known.subscribe(),
            metrics: metrics.clone(),
            clock: clock.clone(),
        };
        let upkeep = held.upkeep(parting, block_list, erased, config.keep_versions, config.commit_interval);
        let (upkeep, asking) = upkeep.start();
        keepers.push(tokio::spawn(upkeep));
        if let Some(files) = schema_files {
            let watch = watch_schemas(files, lake, lease.clone(), tail.clone(), known);
            keepers.push(tokio::spawn(watch));
        }
        let door =
            door::Config { limits: config.limits, blocked: blocked.clone(), ..door::Config::default() };
        let door = open_door(door, listener, &journal, &metrics, &clock)?;
        let subscriber = config.broker.map(|broker| {
            let (journal, metrics) = (journal.clone(), metrics.clone());
            Subscriber::start(broker, &source, journal, metrics, clock, blocked, stop.child_token())
        });
        Ok(Ingest {
            tail,
            metrics,
            dead_letters,
            upkeep: asking,
            source,
            door,
            subscriber,
            journal,
            journal_thread: Some(journal_thread),
            acceptor,
            committer,
            lease,
            keepers,
            stop,
            failed,
        })
    }

    /// The tails that queries join to the lake.
    pub fn tail(&self) -> Tail {
        self.tail.clone()
    }

    /// The counters.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// The way back in for dead letters.
    pub fn dead_letters(&self) -> DeadLetters {
        self.dead_letters.clone()
    }

    /// Asks for the upkeep of tables.
    pub fn upkeep(&self) -> upkeep::Asking {
        self.upkeep.clone()
    }

    /// The source whose journal this is.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Where the door listens.
    pub fn mqtt_addr(&self) -> Option<std::net::SocketAddr> {
        self.door.as_ref().map(Door::addr)
    }

    /// How it fares, for whoever does not own it.
    pub fn status(&self) -> Status {
        Status::new(self.metrics.clone(), self.failed.clone())
    }

    /// Waits until the writer can do its work no more, and says why.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes nothing more, acknowledges what was taken, commits what it can; ends within ten seconds. What
    /// is not committed stays in the journal.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.metrics.trouble("stop", Some("stopping".to_owned()));
        let stopped = tokio::time::timeout(STOP_MAX, self.drain()).await;
        self.keepers.iter().for_each(Task::abort);
        self.acceptor.abort();
        match stopped {
            Ok(result) => result?,
            Err(_) => tracing::warn!("stopped before all was committed; the rest stays in the journal"),
        }
        match tokio::time::timeout(RELEASE_MAX, self.lease.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the lake's lease runs out by itself"),
            Err(_) => tracing::warn!("the lake does not answer; its lease runs out by itself"),
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), Error> {
        self.stop.cancel();
        if let Some(door) = self.door.take() {
            tokio::task::spawn_blocking(move || door.stop()).await.ok();
        }
        if let Some(subscriber) = self.subscriber.take() {
            subscriber.stopped().await?;
        }
        self.journal.close();
        let Some(thread) = self.journal_thread.take() else { return Ok(()) };
        let mut journal = match tokio::task::spawn_blocking(move || thread.join()).await {
            Ok(Ok(result)) => result?,
            _ => return Err(zeugma_journal::Error::Poisoned.into()),
        };
        if let Ok(result) = (&mut self.acceptor).await {
            result?;
        }
        if let Ok((committer, result)) = (&mut self.committer).await {
            result?;
            match committer.commit_now().await {
                Err(error) if error.kind() != ErrorKind::Fenced => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        "stopped without a last commit; what is not in the lake is in the journal"
                    );
                }
                committed => committed?,
            }
        }
        // The next start has the less to replay.
        Ok(journal.truncate(self.tail.safe_through())?)
    }
}

async fn open_journal(data: &Path) -> Result<Journal, Error> {
    let folder = data.join("journal");
    let opened = tokio::task::spawn_blocking(move || Journal::open(&folder)).await;
    let (journal, recovery) = opened.map_err(|_| zeugma_journal::Error::Poisoned)??;
    if recovery.torn_bytes > 0 {
        tracing::warn!(
            bytes = recovery.torn_bytes,
            "the journal's end was torn; it had never been acknowledged"
        );
    }
    Ok(journal)
}

/// Hands acceptance what the journal holds; answers how many records that were, and the last position.
async fn replay(
    synced: impl Iterator<Item = Result<Synced, zeugma_journal::Error>> + Send + 'static,
    handed: blocks::Sender,
    metrics: Arc<Metrics>,
) -> Result<(u64, Position), Error> {
    let replayed = tokio::task::spawn_blocking(move || {
        let (mut records, mut last) = (0, 0);
        for block in synced {
            let block = block?;
            records += block.batch.len() as u64;
            last = block.last();
            metrics.handed_over_again(last);
            if !handed.hand_over(block) {
                return Err(zeugma_journal::Error::Closed);
            }
        }
        Ok((records, last))
    });
    Ok(replayed.await.map_err(|_| zeugma_journal::Error::Closed)??)
}

/// Waits until what the journal held is visible as it was before, late readings included.
async fn caught_up(tail: &Tail, metrics: &Metrics, last: Position) {
    let behind = || tail.accepted_through() < last || metrics.undecided.get() > 0;
    let done = async {
        while behind() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if tokio::time::timeout(CATCH_UP_MAX, done).await.is_err() {
        tracing::warn!("late readings of before the start are not decided yet, and not visible");
    }
}

/// Looks at the clock before the doors open, so that nothing is acknowledged by a wrong one, and ever after.
fn keep_clock(mut keeper: ClockKeeper, trusted: bool) -> Task<()> {
    if trusted {
        keeper.metrics.credible().trust();
    }
    keeper.look();
    tokio::spawn(keeper.run())
}

fn open_door(
    config: door::Config,
    listener: Option<TcpListener>,
    journal: &Group,
    metrics: &Arc<Metrics>,
    clock: &Clock,
) -> Result<Option<Door>, Error> {
    let Some(listener) = listener else { return Ok(None) };
    let door = Door::start_with(config, listener, journal.clone(), metrics.clone(), clock.clone());
    door.map(Some).map_err(|source| Error::Start { what: "the MQTT listener", source })
}

/// Ends with the journal, for a last truncation.
type GroupThread = JoinHandle<Result<Journal, zeugma_journal::Error>>;

fn start_group(
    journal: Journal,
    handed: blocks::Sender,
    metrics: Arc<Metrics>,
    fail: watch::Sender<Option<String>>,
) -> Result<(Group, GroupThread), Error> {
    let counted = metrics.clone();
    let out = move |block: Synced| {
        counted.handed_over(block.last());
        handed.hand_over(block)
    };
    let watch = move |step: Step<'_>| {
        metrics.journal_step(&step);
        if let Step::Failed(error) = step {
            tracing::error!(error = error as &dyn std::error::Error, "the journal ended");
            fail.send_replace(Some(format!("the journal ended: {error}")));
        }
    };
    Group::start_watched(journal, out, watch)
        .map_err(|source| Error::Start { what: "the journal's thread", source })
}

/// Runs a step whose end by an error ends the writer.
async fn reporting(
    fail: watch::Sender<Option<String>>,
    step: &'static str,
    run: impl Future<Output = Result<(), LakeError>>,
) -> Result<(), LakeError> {
    // A step that panics is a mistake of ours; the writer must end by it, not stand still.
    let result = AssertUnwindSafe(run).catch_unwind().await;
    let result = result.unwrap_or_else(|_| Err(LakeError::Internal(format!("{step} panicked"))));
    if let Err(error) = &result {
        tracing::error!(error = error as &dyn std::error::Error, "{step} ended");
        fail.send_replace(Some(format!("{step} ended: {error}")));
    }
    result
}

async fn run_committer(
    committer: Committer,
    stop: CancellationToken,
    fail: watch::Sender<Option<String>>,
) -> (Committer, Result<(), LakeError>) {
    let result = reporting(fail, "the committer", committer.run(stop)).await;
    (committer, result)
}
