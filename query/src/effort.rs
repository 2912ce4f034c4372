//! What a question has cost so far: one that turns out to be long goes on where it is in nobody's way.
//!
//! Nobody can tell from a question's text how much it reads. So each begins like all others, and when its scans have
//! computed for some time, they take a place among the long questions and go on on threads that give way. What is
//! computed from their rows then waits for them, wherever it runs.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use arrow::array::RecordBatch;
use datafusion::{
    common::{DataFusionError, Result},
    execution::SendableRecordBatchStream,
};
use futures::{Stream, StreamExt, stream};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::{OnceCell, mpsc},
};
use tokio_util::task::AbortOnDropHandle;
use zeugma_lake::priority::Priority;

use crate::{
    Config, Error,
    places::{Place, Places},
    table::external,
};

/// Batches that a scan on other threads is ahead of whoever takes them.
const AHEAD: usize = 2;

/// The threads on which long questions scan.
pub struct LongThreads {
    runtime: Option<Runtime>,
}

impl LongThreads {
    /// As many as there are processors, so that long questions have the machine while nobody else wants it.
    pub fn start() -> std::io::Result<LongThreads> {
        let runtime = Builder::new_multi_thread()
            .thread_name("long-question")
            .on_thread_start(|| Priority::Later.take())
            .enable_all()
            .build()?;
        Ok(LongThreads { runtime: Some(runtime) })
    }

    fn handle(&self) -> &Handle {
        self.runtime.as_ref().expect("it is taken by drop alone").handle()
    }
}

impl Drop for LongThreads {
    fn drop(&mut self) {
        // Whoever holds the last reader may be a task, which must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for LongThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LongThreads")
    }
}

/// The effort of one question.
#[derive(Debug)]
pub struct Effort {
    /// Microseconds that its scans have computed.
    computed_us: AtomicU64,
    long_after: Duration,
    places: Arc<Places>,
    first: Place,
    /// Its place among the long questions.
    long: OnceCell<Place>,
    threads: Arc<LongThreads>,
}

/// A scan's rows, from where it computes.
enum Scan {
    Here(SendableRecordBatchStream),
    Elsewhere(mpsc::Receiver<Result<RecordBatch>>, AbortOnDropHandle<()>),
}

impl Effort {
    /// A question that has just got its place.
    pub fn new(config: &Config, places: Arc<Places>, first: Place, threads: Arc<LongThreads>) -> Effort {
        let (computed_us, long) = (AtomicU64::new(0), OnceCell::new());
        Effort { computed_us, long_after: config.long_after, places, first, long, threads }
    }

    /// The rows of a scan, which moves when the question has become long.
    pub fn spent_on(
        self: Arc<Effort>,
        rows: SendableRecordBatchStream,
    ) -> impl Stream<Item = Result<RecordBatch>> + Send {
        stream::unfold(Some(Scan::Here(rows)), move |scan| {
            let effort = self.clone();
            async move {
                let scan = match scan? {
                    Scan::Here(rows) if effort.is_long() => match effort.elsewhere(rows).await {
                        Ok(moved) => moved,
                        Err(error) => return Some((Err(external(error)), None)),
                    },
                    scan => scan,
                };
                match scan {
                    Scan::Here(mut rows) => {
                        let batch =
                            Timed { rows: &mut rows, computed_us: &effort.computed_us }.next().await?;
                        Some((batch, Some(Scan::Here(rows))))
                    }
                    Scan::Elsewhere(mut rows, task) => match rows.recv().await {
                        Some(batch) => Some((batch, Some(Scan::Elsewhere(rows, task)))),
                        // One that has panicked must not look like one that has ended.
                        None => Some((Err(DataFusionError::External(Box::new(task.await.err()?))), None)),
                    },
                }
            }
        })
    }

    fn is_long(&self) -> bool {
        Duration::from_micros(self.computed_us.load(Ordering::Relaxed)) >= self.long_after
    }

    async fn elsewhere(&self, mut rows: SendableRecordBatchStream) -> std::result::Result<Scan, Error> {
        self.long.get_or_try_init(|| self.places.take_long(&self.first)).await?;
        let (give, take) = mpsc::channel(AHEAD);
        let scan = self.threads.handle().spawn(async move {
            while let Some(batch) = rows.next().await {
                if give.send(batch).await.is_err() {
                    break;
                }
            }
        });
        Ok(Scan::Elsewhere(take, AbortOnDropHandle::new(scan)))
    }
}

/// Rows whose computing is timed: nothing in a poll waits.
struct Timed<'a> {
    rows: &'a mut SendableRecordBatchStream,
    computed_us: &'a AtomicU64,
}

impl Stream for Timed<'_> {
    type Item = Result<RecordBatch, DataFusionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let begun = Instant::now();
        let polled = self.rows.poll_next_unpin(context);
        self.computed_us.fetch_add(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
        polled
    }
}

#[cfg(test)]
mod tests;
