//! Starts and stops the writer: opens journal and lake, replays what is not in the lake, opens the doors.

use std::{
    collections::BTreeMap, net::TcpListener, path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle as Task,
};
use tokio_util::sync::CancellationToken;
use zeugma_journal::{Group, Journal, Synced};
use zeugma_lake::{Error as LakeError, Lake, Lease, Position, Snapshot, Table};
use zeugma_schemas::{
    dead_letter,
    domain::{BUILTIN, Domains},
};

use crate::{
    Clock, Error, Metrics,
    accept::{Acceptor, Known, Tables},
    committer::Committer,
    door::{self, Door},
    maintenance::{keep_lease, watch_schemas},
    schema_files::SchemaFiles,
    source,
    subscriber::{self, Subscriber},
    tail::Tail,
    watermarks::Watermarks,
};

/// Synced blocks that may wait for acceptance; each holds at most what one sync gathered (64 MiB), but a
/// block of a busy second has about 1 MiB.
const BLOCKS_WAITING_MAX: usize = 8;

/// Shutdown commits what it can in this time; the rest stays in the journal.
const STOP_MAX: Duration = Duration::from_secs(10);

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
    /// How much devices may take.
    pub limits: door::Limits,
}

/// A running writer.
#[derive(Debug)]
pub struct Ingest {
    tail: Tail,
    metrics: Arc<Metrics>,
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

/// Everything that is known of the lake when the writer starts.
struct Opened {
    journal: Journal,
    source: String,
    lease: Lease,
    domains: Domains,
    snapshots: BTreeMap<String, (Table, Arc<Snapshot>)>,
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
        let metrics = Arc::new(Metrics::default());
        let mut schema_files = config.schemas.as_deref().map(SchemaFiles::new);
        let opened = open(&config, &lake, schema_files.as_mut(), &clock).await?;
        let Opened { journal, source, lease, domains, snapshots } = opened;
        let tail = Tail::new(&source, metrics.clone());
        let through = committed_through(&snapshots, &source);
        let (known_sender, known) = watch::channel(make_known(domains, &snapshots, &tail, &source));
        let watermarks = rebuild_watermarks(&snapshots).await?;
        let (blocks_sender, blocks) = mpsc::channel(BLOCKS_WAITING_MAX);
        let acceptor =
            Acceptor::new(&source, known.clone(), tail.clone(), metrics.clone(), watermarks, through.clone());
        let (fail, failed) = watch::channel(None);
        let stop = CancellationToken::new();
        let acceptor = tokio::spawn(reporting(fail.clone(), "acceptance", acceptor.run(blocks)));
        let replayed = replay(&journal, &through, blocks_sender.clone()).await?;
        tracing::info!(source, records = replayed, "journal open");
        let (journal, journal_thread) = start_group(journal, blocks_sender)?;
        let committer = Committer {
            tail: tail.clone(),
            known: known.clone(),
            journal: journal.clone(),
            lease: lease.clone(),
            interval: config.commit_interval,
            metrics: metrics.clone(),
            clock: clock.clone(),
            written: BTreeMap::new(),
        };
        let committer = tokio::spawn(run_committer(committer, stop.clone(), fail.clone()));
        let mut keepers = vec![tokio::spawn(keep_lease(lease.clone(), clock.clone(), fail.clone()))];
        if let Some(files) = schema_files {
            let watch = watch_schemas(files, lake, lease.clone(), tail.clone(), known_sender);
            keepers.push(tokio::spawn(watch));
        }
        let limited = door::Config { limits: config.limits, ..door::Config::default() };
        let door = listener.map(|listener| {
            Door::start_with(limited, listener, journal.clone(), metrics.clone(), clock.clone())
        });
        let door = door.transpose().map_err(|source| Error::Start { what: "the MQTT listener", source })?;
        let subscriber = config.broker.map(|broker| {
            Subscriber::start(broker, &source, journal.clone(), metrics.clone(), clock, stop.child_token())
        });
        Ok(Ingest {
            tail,
            metrics,
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

    /// The source whose journal this is.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Where the door listens.
    pub fn mqtt_addr(&self) -> Option<std::net::SocketAddr> {
        self.door.as_ref().map(Door::addr)
    }

    /// What keeps the writer from doing its work; empty when it does it.
    pub fn troubles(&self) -> Vec<String> {
        let away = self.subscriber.as_ref().filter(|subscriber| !subscriber.connected());
        let away = away.map(|_| "the broker is not connected".to_owned());
        away.into_iter().chain(self.failed.borrow().clone()).collect()
    }

    /// Waits until the writer can do its work no more, and says why.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes nothing more, acknowledges what was taken, commits what it can in ten seconds. What is not
    /// committed stays in the journal.
    pub async fn stop(mut self) -> Result<(), Error> {
        let stopped = tokio::time::timeout(STOP_MAX, self.drain()).await;
        self.keepers.iter().for_each(Task::abort);
        self.acceptor.abort();
        match stopped {
            Ok(result) => result?,
            Err(_) => tracing::warn!("stopped before all was committed; the rest stays in the journal"),
        }
        self.lease.release().await?;
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
        if let Ok((mut committer, result)) = (&mut self.committer).await {
            result?;
            committer.commit_tables(true).await?;
        }
        // The next start has the less to replay.
        Ok(journal.truncate(self.tail.safe_through())?)
    }
}

/// Opens journal and lake, and makes sure that they fit together.
async fn open(
    config: &Config,
    lake: &Lake,
    schema_files: Option<&mut SchemaFiles>,
    clock: &Clock,
) -> Result<Opened, Error> {
    let journal_folder = config.data.join("journal");
    let opened = tokio::task::spawn_blocking(move || Journal::open(&journal_folder)).await;
    let (journal, recovery) = opened.map_err(|_| zeugma_journal::Error::Poisoned)??;
    if recovery.torn_bytes > 0 {
        tracing::warn!(
            bytes = recovery.torn_bytes,
            "the journal's end was torn; it had never been acknowledged"
        );
    }
    let mut source = source::of(&config.data)?;
    let mut lease = Lease::take(lake.store(), &source, clock() / 1_000).await?;
    let domains = domains(lake, schema_files).await?;
    let mut snapshots = open_tables(lake, &domains, &lease).await?;
    let known = snapshots.values().map(|(_, snapshot)| snapshot.committed_through(&source)).max();
    if known.is_some_and(|known| known >= journal.next()) {
        tracing::warn!(
            source,
            "the lake knows more of this source than the journal does: a new source is begun"
        );
        lease.release().await?;
        source = source::renew(&config.data)?;
        lease = Lease::take(lake.store(), &source, clock() / 1_000).await?;
        snapshots = open_tables(lake, &domains, &lease).await?;
    }
    Ok(Opened { journal, source, lease, domains, snapshots })
}

/// Every schema there is: those the lake keeps, ours, and those of the operator's folder.
async fn domains(lake: &Lake, schema_files: Option<&mut SchemaFiles>) -> Result<Domains, Error> {
    let mut domains = lake.domains().await?;
    for text in BUILTIN {
        domains.add(text).map_err(LakeError::from)?;
    }
    if let Some(grown) = schema_files.and_then(|files| files.look(&domains)) {
        domains = grown;
    }
    lake.keep_schemas(&domains).await?;
    Ok(domains)
}

async fn open_tables(
    lake: &Lake,
    domains: &Domains,
    lease: &Lease,
) -> Result<BTreeMap<String, (Table, Arc<Snapshot>)>, Error> {
    let columns = domains.iter().map(|domain| (domain.name().to_owned(), domain.columns().clone()));
    let columns = columns.chain([(dead_letter::TABLE.to_owned(), dead_letter::columns())]);
    let mut tables = BTreeMap::new();
    for (name, columns) in columns {
        let table = lake.table(&name);
        table.ensure(&columns).await?;
        let snapshot = table.fence(lease).await?;
        tables.insert(name, (table, snapshot));
    }
    Ok(tables)
}

fn committed_through(
    snapshots: &BTreeMap<String, (Table, Arc<Snapshot>)>,
    source: &str,
) -> BTreeMap<String, Position> {
    let through = |(name, (_, snapshot)): (&String, &(Table, Arc<Snapshot>))| {
        (name.clone(), snapshot.committed_through(source))
    };
    snapshots.iter().map(through).collect()
}

fn make_known(
    domains: Domains,
    snapshots: &BTreeMap<String, (Table, Arc<Snapshot>)>,
    tail: &Tail,
    source: &str,
) -> Known {
    for (name, (_, snapshot)) in snapshots {
        let columns = domains.get(name).map_or_else(dead_letter::columns, |domain| domain.columns().clone());
        tail.ensure(name, &columns, snapshot.committed_through(source));
    }
    let tables: Tables = snapshots.iter().map(|(name, (table, _))| (name.clone(), table.clone())).collect();
    Known { domains: Arc::new(domains), tables: Arc::new(tables) }
}

/// The newest time of every device, from the lake.
async fn rebuild_watermarks(
    snapshots: &BTreeMap<String, (Table, Arc<Snapshot>)>,
) -> Result<Watermarks, Error> {
    let mut watermarks = Watermarks::default();
    for (name, (table, snapshot)) in snapshots.iter().filter(|(name, _)| *name != dead_letter::TABLE) {
        for ((tenant, device), time_us) in table.newest_times(snapshot).await? {
            watermarks.raise(name, &tenant, &device, time_us);
        }
    }
    Ok(watermarks)
}

/// Hands acceptance what the journal holds beyond what every table has.
async fn replay(
    journal: &Journal,
    through: &BTreeMap<String, Position>,
    blocks: mpsc::Sender<Synced>,
) -> Result<u64, Error> {
    let beyond = through.values().min().copied().unwrap_or(0);
    let replay = journal.replay(beyond);
    let replayed = tokio::task::spawn_blocking(move || {
        let mut records = 0;
        for block in replay {
            let block = block?;
            records += block.batch.len() as u64;
            if blocks.blocking_send(block).is_err() {
                return Err(zeugma_journal::Error::Closed);
            }
        }
        Ok(records)
    });
    Ok(replayed.await.map_err(|_| zeugma_journal::Error::Closed)??)
}

/// Ends with the journal, for a last truncation.
type GroupThread = JoinHandle<Result<Journal, zeugma_journal::Error>>;

fn start_group(journal: Journal, blocks: mpsc::Sender<Synced>) -> Result<(Group, GroupThread), Error> {
    Group::start(journal, move |block| blocks.blocking_send(block).is_ok())
        .map_err(|source| Error::Start { what: "the journal's thread", source })
}

/// Runs a step whose end by an error ends the writer.
async fn reporting(
    fail: watch::Sender<Option<String>>,
    step: &'static str,
    run: impl Future<Output = Result<(), LakeError>>,
) -> Result<(), LakeError> {
    let result = run.await;
    if let Err(error) = &result {
        tracing::error!(error = error as &dyn std::error::Error, "{step} ended");
        fail.send_replace(Some(format!("{step} ended: {error}")));
    }
    result
}

async fn run_committer(
    mut committer: Committer,
    stop: CancellationToken,
    fail: watch::Sender<Option<String>>,
) -> (Committer, Result<(), LakeError>) {
    let result = reporting(fail, "the committer", committer.run(stop)).await;
    (committer, result)
}
