//! The process: what `zeugma ingest` is made of, over a disk and a store that may fail.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use zeugma_ingest::{
    Clock, Metrics,
    accept::{Acceptor, Known, Lookup},
    committer::Committer,
    compactor::Compactor,
    start::{Opened, Steps},
    tail::Tail,
};
use zeugma_journal::{Journal, Synced};
use zeugma_lake::{Lake, Lease, Shelf};

use super::{disk::SimDisk, store::SimStore};

/// Segments turn every few blocks.
pub(super) const SEGMENT_BYTES: u64 = 4_000;

/// Where the marks of segments come from: nothing that happens depends on them.
pub(super) fn marks() -> Rng {
    Rng::with_seed(0)
}

/// The process, as long as it lives.
pub(super) struct Running {
    pub journal: Journal,
    pub source: String,
    pub lease: Lease,
    pub acceptor: Acceptor,
    pub tail: Tail,
    /// Kept, as acceptance and committer look at what it sends.
    _known: tokio::sync::watch::Sender<Known>,
    pub committer: Committer,
    pub compactor: Compactor,
    pub forget: Arc<AtomicU64>,
    /// Where rows are sealed; it ends with the process.
    pub shelf: Arc<SimStore>,
    pub lookup: Option<Lookup>,
    /// Synced and not accepted yet.
    pub blocks: VecDeque<Synced>,
    /// Whether all that the journal held at the start is decided: before that nobody is answered.
    pub caught_up: bool,
    /// A lake of the reader's own, with snapshots of its own age.
    pub reader: Lake,
}

impl Running {
    /// Starts it on a disk and a data folder, over a lake; `reader` is the same lake, opened once more.
    pub async fn start(
        disk: &Arc<SimDisk>,
        data: &Path,
        lake: &Lake,
        reader: Lake,
        clock: Clock,
    ) -> Result<Running, zeugma_ingest::Error> {
        let (journal, _) = Journal::open_on(disk.clone(), SEGMENT_BYTES, marks())?;
        let metrics = Arc::new(Metrics::default());
        let opened = Opened::open(journal, data, lake, None, &clock).await?;
        let Steps { acceptor, tail, known } = opened.steps(&metrics).await?;
        let blocks = opened.replay().collect::<Result<_, _>>()?;
        let Opened { journal, source, lease, .. } = opened;
        let forget = Arc::new(AtomicU64::new(0));
        let forgotten = forget.clone();
        let shelf = Arc::<SimStore>::default();
        let committer = Committer {
            tail: tail.clone(),
            known: known.subscribe(),
            shelf: Arc::new(Shelf::with_store(shelf.clone(), &lease)),
            forget: Arc::new(move |through| {
                forgotten.fetch_max(through, Ordering::SeqCst);
            }),
            lease: lease.clone(),
            interval: Duration::from_secs(60),
            metrics,
            clock: clock.clone(),
        };
        let compactor = Compactor {
            known: known.subscribe(),
            lease: lease.clone(),
            clock,
            count: AtomicU64::new(0),
            metrics: None,
        };
        Ok(Running {
            journal,
            source,
            lease,
            acceptor,
            tail,
            _known: known,
            committer,
            compactor,
            forget,
            shelf,
            lookup: None,
            blocks,
            caught_up: false,
            reader,
        })
    }
}
