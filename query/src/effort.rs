//! What a question has cost so far: one that turns out to be long goes on where it is in nobody's way.
//!
//! Nobody can tell from a question's text how much it reads. So each begins like all others, and when its pipelines
//! have computed for some time, they take a place among the long questions and go on on threads that give way.

use std::{
    fmt,
    future::poll_fn,
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

/// Batches that a pipeline on other threads is ahead of whoever takes them.
const AHEAD: usize = 2;

/// The threads on which long questions compute.
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
    /// Microseconds that its pipelines have computed.
    computed_us: AtomicU64,
    long_after: Duration,
    places: Arc<Places>,
    first: Place,
    /// Its place among the long questions.
    long: OnceCell<Place>,
    threads: Arc<LongThreads>,
}

/// A pipeline's rows, from where it computes.
enum Work {
    Here(SendableRecordBatchStream),
    Elsewhere(mpsc::Receiver<Result<RecordBatch>>, AbortOnDropHandle<()>),
}

/// What comes next of rows that are computed here.
enum Next {
    Rows(Option<Result<RecordBatch>>),
    /// The question has become long.
    Long,
}

impl Effort {
    /// A question that has just got its place.
    pub fn new(config: &Config, places: Arc<Places>, first: Place, threads: Arc<LongThreads>) -> Effort {
        let (computed_us, long) = (AtomicU64::new(0), OnceCell::new());
        Effort { computed_us, long_after: config.long_after, places, first, long, threads }
    }

    /// The rows of a pipeline, which moves when the question has become long.
    pub fn spent_on(
        self: Arc<Effort>,
        rows: SendableRecordBatchStream,
    ) -> impl Stream<Item = Result<RecordBatch>> + Send {
        stream::unfold(Some(Work::Here(rows)), move |work| {
            let effort = self.clone();
            async move { effort.step(work?).await }
        })
    }

    /// The next rows, and what is left to do.
    async fn step(&self, work: Work) -> Option<(Result<RecordBatch>, Option<Work>)> {
        let (mut rows, task) = match work {
            Work::Here(mut rows) => match poll_fn(|context| self.next(&mut rows, context)).await {
                Next::Rows(batch) => return Some((batch?, Some(Work::Here(rows)))),
                Next::Long => match self.elsewhere(rows).await {
                    Ok(moved) => moved,
                    Err(error) => return Some((Err(external(error)), None)),
                },
            },
            Work::Elsewhere(rows, task) => (rows, task),
        };
        match rows.recv().await {
            Some(batch) => Some((batch, Some(Work::Elsewhere(rows, task)))),
            // One that has panicked must not look like one that has ended.
            None => Some((Err(DataFusionError::External(Box::new(task.await.err()?))), None)),
        }
    }

    /// Computes for as long as it takes to the next batch, or to where something has to be waited for.
    fn next(&self, rows: &mut SendableRecordBatchStream, context: &mut Context<'_>) -> Poll<Next> {
        if self.is_long() {
            return Poll::Ready(Next::Long);
        }
        // Nothing in a poll waits.
        let begun = Instant::now();
        let polled = rows.poll_next_unpin(context);
        self.computed_us.fetch_add(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
        polled.map(Next::Rows)
    }

    fn is_long(&self) -> bool {
        Duration::from_micros(self.computed_us.load(Ordering::Relaxed)) >= self.long_after
    }

    async fn elsewhere(
        &self,
        mut rows: SendableRecordBatchStream,
    ) -> std::result::Result<(mpsc::Receiver<Result<RecordBatch>>, AbortOnDropHandle<()>), Error> {
        self.long.get_or_try_init(|| self.places.take_long(&self.first)).await?;
        let (give, take) = mpsc::channel(AHEAD);
        let task = self.threads.handle().spawn(async move {
            while let Some(batch) = rows.next().await {
                if give.send(batch).await.is_err() {
                    break;
                }
            }
        });
        Ok((take, AbortOnDropHandle::new(task)))
    }
}

#[cfg(test)]
mod tests;
