//! Starts and stops the writer: opens journal and lake, replays what is not in the lake, opens the doors.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle as Task,
};
use tokio_util::sync::CancellationToken;
use zeugma_journal::{Group, Journal, Synced};
use zeugma_lake::{Error as LakeError, ErrorKind, Lake, Lease, Shelf};

use crate::{
    Clock, Error, Metrics,
    committer::Committer,
    door::Door,
    maintenance::{keep_lease, watch_schemas},
    schema_files::SchemaFiles,
    start::{Opened, Steps},
    subscriber::{self, Subscriber},
    tail::Tail,
};

/// Synced blocks that may wait for acceptance; each holds at most what one sync gathered (64 MiB), but a
/// block of a busy second has about 1 MiB.
const BLOCKS_WAITING_MAX: usize = 8;

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
        let journal = open_journal(&config.data).await?;
        let opened = Opened::open(journal, &config.data, &lake, schema_files.as_mut(), &clock).await?;
        let shelf = Shelf::open(&config.data.join("sealed"), &opened.lease)?;
        let Steps { acceptor, tail, known } = opened.steps(&metrics).await?;
        let (blocks_sender, blocks) = mpsc::channel(BLOCKS_WAITING_MAX);
        let (fail, failed) = watch::channel(None);
        let stop = CancellationToken::new();
        let acceptor = tokio::spawn(reporting(fail.clone(), "acceptance", acceptor.run(blocks)));
        let replayed = replay(opened.replay(), blocks_sender.clone()).await?;
        let Opened { journal, source, lease, .. } = opened;
        tracing::info!(source, records = replayed, "journal open");
        let (journal, journal_thread) = start_group(journal, blocks_sender)?;
        let committer = Committer {
            tail: tail.clone(),
            known: known.subscribe(),
            shelf: Arc::new(shelf),
            forget: {
                let journal = journal.clone();
                Arc::new(move |through| journal.truncate(through))
            },
            lease: lease.clone(),
            interval: config.commit_interval,
            metrics: metrics.clone(),
            clock: clock.clone(),
        };
        let committer = tokio::spawn(run_committer(committer, stop.clone(), fail.clone()));
        let mut keepers = vec![tokio::spawn(keep_lease(lease.clone(), clock.clone(), fail.clone()))];
        if let Some(files) = schema_files {
            let watch = watch_schemas(files, lake, lease.clone(), tail.clone(), known);
            keepers.push(tokio::spawn(watch));
        }
        let door =
            listener.map(|listener| Door::start(listener, journal.clone(), metrics.clone(), clock.clone()));
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

    /// Takes nothing more, acknowledges what was taken, commits what it can; ends within ten seconds. What
    /// is not committed stays in the journal.
    pub async fn stop(mut self) -> Result<(), Error> {
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
                    tracing::warn!(error = &error as &dyn std::error::Error, "the last commit failed");
                }
                result => result?,
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

/// Hands acceptance what the journal holds.
async fn replay(
    synced: impl Iterator<Item = Result<Synced, zeugma_journal::Error>> + Send + 'static,
    blocks: mpsc::Sender<Synced>,
) -> Result<u64, Error> {
    let replayed = tokio::task::spawn_blocking(move || {
        let mut records = 0;
        for block in synced {
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
    committer: Committer,
    stop: CancellationToken,
    fail: watch::Sender<Option<String>>,
) -> (Committer, Result<(), LakeError>) {
    let result = reporting(fail, "the committer", committer.run(stop)).await;
    (committer, result)
}
