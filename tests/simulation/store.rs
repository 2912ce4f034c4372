//! An object store that goes away, loses answers, does late what it was asked, and is slow where it is told to be.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use tokio::sync::Notify;

/// What a put of a table's log meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// It is done, and its answer is lost.
    LostAnswer,
    /// It is said to have failed, and is under way until it [lands](SimStore::land).
    Late,
    /// It is not done.
    Refused,
    /// The put of a data file is not done.
    DataRefused,
    /// The put of anything is not done.
    AnyRefused,
    /// The put of anything is done, and its answer is lost.
    AnyLost,
    /// The put of anything is not done, and nothing answers from then on.
    Gone,
}

/// A store in memory.
#[derive(Debug)]
pub struct SimStore {
    objects: InMemory,
    /// With the number of puts of its kind that pass before it.
    fault: Mutex<Option<(StoreFault, u8)>>,
    /// Puts that are under way, though whoever sent them has given up.
    late: Mutex<Vec<(Path, PutPayload, PutOptions)>>,
    away: AtomicBool,
    gate: Arc<Gate>,
}

/// Holds up reads of data files until it is opened.
#[derive(Debug, Default)]
pub struct Gate {
    closed: AtomicBool,
    arrived: Notify,
    opened: Notify,
}

impl Gate {
    /// From now on reads wait.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Lets all pass.
    pub fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    /// Waits until somebody stands before it.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    async fn pass(&self) {
        while self.closed.load(Ordering::SeqCst) {
            let opened = self.opened.notified();
            self.arrived.notify_one();
            opened.await;
        }
    }
}

impl Default for SimStore {
    fn default() -> SimStore {
        SimStore {
            objects: InMemory::new(),
            fault: Mutex::default(),
            late: Mutex::default(),
            away: AtomicBool::new(false),
            gate: Arc::default(),
        }
    }
}

impl SimStore {
    /// Arms a fault for a put of its kind, after so many others.
    pub fn arm(&self, fault: StoreFault, after: u8) {
        *self.fault() = Some((fault, after));
    }

    /// Whether the fault that was armed has not happened yet.
    pub fn is_armed(&self) -> bool {
        self.fault().is_some()
    }

    /// What is under way arrives; nobody hears whether it was still wanted.
    pub async fn land(&self) {
        let late = std::mem::take(&mut *self.late());
        for (location, payload, options) in late {
            drop(self.objects.put_opts(&location, payload, options).await);
        }
    }

    /// Whether nothing answers any more.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// The gate before data files.
    pub fn gate(&self) -> Arc<Gate> {
        self.gate.clone()
    }

    /// Everything answers again, as it should.
    pub fn calm(&self) {
        *self.fault() = None;
        self.set_away(false);
        self.gate.open();
    }

    fn fault(&self) -> MutexGuard<'_, Option<(StoreFault, u8)>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn late(&self) -> MutexGuard<'_, Vec<(Path, PutPayload, PutOptions)>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self) -> Result<()> {
        if self.away.load(Ordering::SeqCst) { Err(failure("the store is away")) } else { Ok(()) }
    }

    /// The armed fault, if it is for a put of this object.
    fn meets(&self, location: &Path) -> Option<StoreFault> {
        let (log, data) = (location.as_ref().contains("_delta_log"), location.as_ref().ends_with(".parquet"));
        let mut armed = self.fault();
        let (fault, after) = armed.filter(|(fault, _)| match fault {
            StoreFault::DataRefused => data && !log,
            StoreFault::LostAnswer | StoreFault::Late | StoreFault::Refused => log,
            // The lease is renewed now and then, whatever else happens.
            StoreFault::AnyRefused | StoreFault::AnyLost | StoreFault::Gone => {
                !location.as_ref().contains("_zeugma/lease")
            }
        })?;
        *armed = after.checked_sub(1).map(|after| (fault, after));
        if armed.is_none() && fault == StoreFault::Gone {
            self.set_away(true);
        }
        armed.is_none().then_some(fault)
    }
}

fn failure(what: &'static str) -> Error {
    Error::Generic { store: "simulated", source: what.into() }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated store")
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.reach()?;
        match self.meets(location) {
            None => self.objects.put_opts(location, payload, options).await,
            Some(StoreFault::LostAnswer | StoreFault::AnyLost) => {
                self.objects.put_opts(location, payload, options).await?;
                Err(failure("the answer was lost"))
            }
            Some(StoreFault::Late) => {
                self.late().push((location.clone(), payload, options));
                Err(failure("no answer came in time"))
            }
            Some(_) => Err(failure("the put was refused")),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.reach()?;
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reach()?;
        self.objects.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.gate.pass().await;
        self.reach()?;
        self.objects.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.reach() {
            Ok(()) => self.objects.delete_stream(locations),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.reach() {
            Ok(()) => self.objects.list(prefix),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.reach()?;
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.reach()?;
        self.objects.copy_opts(from, to, options).await
    }
}
