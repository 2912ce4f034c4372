//! Work that nobody waits for gives way to acknowledgements and answers: it computes on a thread of its own.
//!
//! A thread hands its priority on to those it starts, and the runtime starts threads for files from whichever
//! asks for them. So such work reaches a store by [`Elsewhere`], which reads and writes on the runtime's own threads.

use std::{fmt, ops::Range, sync::Arc, thread, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult, UploadPart,
    path::Path,
};
use tokio::{runtime::Handle, sync::oneshot};

use crate::Error;

/// How far work gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// It gets a quarter of a processor that others want too: what it does is needed soon.
    Soon,
    /// It gets a thirtieth: somebody waits for it, and knows that it takes long.
    Later,
    /// It gets what nobody else wants, and a sixtieth at least: what it does can wait for a quiet hour.
    Sometime,
}

impl Priority {
    /// Does work on a thread that gives way.
    ///
    /// # Errors
    /// Those of the work; [`Error::Internal`] where the system gives no thread, or the work panics.
    pub async fn run<T, F>(self, name: &str, work: impl FnOnce() -> F + Send + 'static) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>>,
    {
        let (runtime, (tell, told)) = (Handle::current(), oneshot::channel());
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            self.take();
            // Nobody waits any more where the program stops.
            drop(tell.send(runtime.block_on(work())));
        });
        thread.map_err(|error| Error::Internal(format!("no thread can be started: {error}")))?;
        told.await.map_err(|_| Error::Internal(format!("the thread `{name}` has panicked")))?
    }

    /// Gives this thread the priority, for good (setpriority(2); sched(7) has the weights).
    pub fn take(self) {
        let nice = match self {
            Priority::Soon => 5,
            Priority::Later => 15,
            Priority::Sometime => 19,
        };
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::setpriority_process(None, nice) {
            tracing::debug!(%error, "a thread that should give way keeps its priority");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = nice;
    }
}

/// How many times longer a thread rests than it had to wait for a processor.
const REST: u32 = 4;

/// The longest rest between two pieces of work.
const REST_MAX: Duration = Duration::from_secs(1);

/// Work that rests while processors are wanted. Priority alone is not enough: whatever gap others leave is taken, and
/// they find it taken, and the caches full of other things, when they come back a moment later.
#[derive(Debug)]
pub struct Rests {
    before: Waits,
}

impl Rests {
    /// Of the thread that asks, from now on.
    pub fn begin() -> Rests {
        Rests { before: Waits::of_this_thread() }
    }

    /// Called between two pieces of work of some milliseconds: stands still for four times as long as the last one had
    /// to wait for a processor, a second at most. On a machine that has nothing else to do that is not at all.
    pub fn rest(&mut self) {
        let rest = Waits::of_this_thread().rest_after(self.before);
        if !rest.is_zero() {
            thread::sleep(rest);
        }
        self.before = Waits::of_this_thread();
    }
}

/// How long a thread had to wait for a processor since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Waits(Duration);

impl Waits {
    /// Nothing where the system does not say.
    fn of_this_thread() -> Waits {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat");
        told.ok().and_then(|told| Waits::parse(&told)).unwrap_or_default()
    }

    /// From the kernel's words: nanoseconds computed, nanoseconds waited, turns (Linux, sched-stats.rst).
    fn parse(told: &str) -> Option<Waits> {
        told.split_whitespace().nth(1)?.parse().ok().map(|waited| Waits(Duration::from_nanos(waited)))
    }

    fn rest_after(self, before: Waits) -> Duration {
        (self.0.saturating_sub(before.0) * REST).min(REST_MAX)
    }
}

/// A store whose reads and writes happen on the threads of a runtime, whoever asks for them; lists, deletions and
/// copies, which such work does not do, are the store's own.
#[derive(Debug)]
pub struct Elsewhere {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
}

impl Elsewhere {
    /// The store, reached by the runtime that this is called in.
    pub fn of(store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(Elsewhere { store, runtime: Handle::current() })
    }
}

async fn on<T: Send + 'static>(
    runtime: &Handle,
    io: impl Future<Output = StoreResult<T>> + Send + 'static,
) -> StoreResult<T> {
    runtime.spawn(io).await.unwrap_or_else(|source| Err(StoreError::JoinError { source }))
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Elsewhere {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        let (store, location) = (self.store.clone(), location.clone());
        on(&self.runtime, async move { store.put_opts(&location, payload, options).await }).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        let (store, location) = (self.store.clone(), location.clone());
        let upload = async move { store.put_multipart_opts(&location, options).await };
        let upload = Some(on(&self.runtime, upload).await?);
        Ok(Box::new(Upload { upload, runtime: self.runtime.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let (store, location) = (self.store.clone(), location.clone());
        on(&self.runtime, async move { store.get_opts(&location, options).await }).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        let (store, location, ranges) = (self.store.clone(), location.clone(), ranges.to_vec());
        on(&self.runtime, async move { store.get_ranges(&location, &ranges).await }).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.store.copy_opts(from, to, options).await
    }
}

/// A large file on its way to a store.
#[derive(Debug)]
struct Upload {
    /// Away while the runtime has it.
    upload: Option<Box<dyn MultipartUpload>>,
    runtime: Handle,
}

impl Upload {
    fn taken(&mut self) -> StoreResult<Box<dyn MultipartUpload>> {
        self.upload.take().ok_or_else(ended)
    }
}

fn ended() -> StoreError {
    StoreError::Generic { store: "elsewhere", source: "the upload has ended".into() }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let Some(upload) = &mut self.upload else {
            return async { Err(ended()) }.boxed();
        };
        let (part, runtime) = (upload.put_part(payload), self.runtime.clone());
        async move { on(&runtime, part).await }.boxed()
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        let mut upload = self.taken()?;
        on(&self.runtime, async move { upload.complete().await }).await
    }

    async fn abort(&mut self) -> StoreResult<()> {
        let mut upload = self.taken()?;
        on(&self.runtime, async move { upload.abort().await }).await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering::Relaxed},
        time::Instant,
    };

    use super::*;

    #[test]
    fn rest_is_four_times_the_wait_and_a_second_at_most() {
        let waits = |ms| Waits(Duration::from_millis(ms));
        assert_eq!(waits(70).rest_after(waits(70)), Duration::ZERO);
        assert_eq!(waits(75).rest_after(waits(70)), Duration::from_millis(20));
        assert_eq!(waits(5_000).rest_after(waits(70)), REST_MAX);
        // Where the kernel stopped counting.
        assert_eq!(waits(0).rest_after(waits(70)), Duration::ZERO);
    }

    #[test]
    fn waits_are_read_in_the_kernels_words() {
        assert_eq!(Waits::parse("230677 1500 3\n"), Some(Waits(Duration::from_nanos(1_500))));
        assert_eq!(Waits::parse("0 0 0"), Some(Waits::default()));
        assert_eq!(Waits::parse(""), None);
    }

    #[test]
    fn a_thread_that_others_keep_from_computing_has_waited_where_the_system_says_so() {
        let says = std::path::Path::new("/proc/thread-self/schedstat").exists();
        let stop = AtomicBool::new(false);
        let others = thread::available_parallelism().expect("a number").get() + 1;
        let computes = || {
            while !stop.load(Relaxed) {
                std::hint::spin_loop();
            }
        };
        thread::scope(|scope| {
            (0..others).for_each(|_| drop(scope.spawn(computes)));
            let (before, began) = (Waits::of_this_thread(), Instant::now());
            while says && Waits::of_this_thread() == before && began.elapsed() < Duration::from_secs(20) {}
            stop.store(true, Relaxed);
            assert_eq!(Waits::of_this_thread().rest_after(before) > Duration::ZERO, says);
        });
    }
}
