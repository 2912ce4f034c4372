//! A question is asked: it gets a place among those running, a plan, a deadline, and answers as batches.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Instant,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{dataframe::DataFrame, execution::SendableRecordBatchStream, physical_plan::execute_stream};
use futures::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use tokio_util::task::AbortOnDropHandle;
use zeugma_lake::{Lake, seam::Tail};

use crate::{
    Config, Error, Grant,
    catalog::{Catalog, Known, LATEST},
    effort::{Effort, LongThreads},
    pipelines::movable,
    places::Places,
    plans::{Asked, Plans},
    session::{Plan, Session, Sessions},
    statement,
    table::Tables,
};

/// Which rows a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Rows {
    /// Everything accepted, committed or not.
    #[default]
    LakeAndTail,
    /// What is committed.
    Lake,
    /// What a version of the one table that the question names held.
    Version(u64),
}

/// The reader of one lake; clones share it.
#[derive(Debug, Clone)]
pub struct Query {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    catalog: Catalog,
    tail: Option<Arc<dyn Tail>>,
    sessions: Sessions,
    plans: Plans,
    config: Config,
    places: Arc<Places>,
    long_threads: Arc<LongThreads>,
}

/// An answer whose first rows are there.
pub struct Answer {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch, Error>>,
}

impl Query {
    /// A reader of a lake and its tail.
    ///
    /// # Errors
    /// [`Error::Internal`] or [`Error::Sql`] where the engine refuses its settings.
    pub fn new(lake: Lake, tail: Option<Arc<dyn Tail>>, config: Config) -> Result<Query, Error> {
        let sessions = Sessions::new(&lake, &config)?;
        let places = Arc::new(Places::new(&config));
        let threads = LongThreads::start();
        let threads =
            threads.map_err(|error| Error::Internal(format!("no threads can be started: {error}")))?;
        let long_threads = Arc::new(threads);
        let (catalog, plans) = (Catalog::new(lake), Plans::new());
        let shared = Shared { catalog, tail, sessions, plans, config, places, long_threads };
        Ok(Query { shared: Arc::new(shared) })
    }

    /// The tables there are.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.shared.catalog
    }

    /// The tail, where there is one.
    pub(crate) fn tail(&self) -> Option<&Arc<dyn Tail>> {
        self.shared.tail.as_ref()
    }

    /// Answers SQL with all rows at once; for small answers and for tests.
    pub async fn sql(&self, grant: &Grant, sql: &str) -> Result<Vec<RecordBatch>, Error> {
        self.ask(grant, Rows::default(), sql).await?.batches.try_collect().await
    }

    /// Answers SQL.
    pub async fn ask(&self, grant: &Grant, rows: Rows, sql: &str) -> Result<Answer, Error> {
        let started = Started::at_place(&self.shared, grant).await?;
        let asked = Asked { sql: sql.to_owned(), grant: grant.clone(), rows };
        let plan = started.in_time(self.plan(asked)).await?;
        started.answer(plan).await
    }

    async fn plan(&self, asked: Asked) -> Result<Plan, Error> {
        let Shared { sessions, catalog, plans, .. } = &*self.shared;
        let known = match catalog.tables().await {
            Ok(known) => known,
            // What nobody may ask is refused whether the lake answers or not.
            Err(error) => return Err(sessions.read(&asked.sql).err().unwrap_or(error)),
        };
        if let Some(meaning) = plans.get(&asked, &known) {
            return Ok(self.session(&known, &asked.grant, asked.rows)?.plan_again(meaning));
        }
        let statement = sessions.read(&asked.sql)?;
        let plan = async |known: &Arc<Known>| {
            let session = self.session(known, &asked.grant, asked.rows)?;
            if matches!(asked.rows, Rows::Version(_)) {
                session.check_one_table(&statement)?;
            }
            session.plan(&statement).await
        };
        let (known, plan) = match plan(&known).await {
            // A table or a column that it names may have come since.
            Err(Error::Sql { .. }) => {
                let known = catalog.tables_again().await?;
                let plan = plan(&known).await?;
                (known, plan)
            }
            planned => (known, planned?),
        };
        if statement::may_be_kept(&statement) {
            plans.keep(asked, &known, plan.meaning());
        }
        Ok(plan)
    }

    /// Answers a question about the newest readings of a domain that is put together without text.
    ///
    /// # Errors
    /// As [`Query::ask_table`].
    pub(crate) async fn ask_latest(
        &self,
        grant: &Grant,
        rows: Rows,
        domain: &str,
        build: impl FnOnce(DataFrame) -> Result<DataFrame, Error>,
    ) -> Result<Answer, Error> {
        self.ask_known(grant, rows, domain, &format!("{domain}{LATEST}"), build).await
    }

    /// Answers a question about one table that is put together without text.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such table; else as [`Query::ask`].
    pub(crate) async fn ask_table(
        &self,
        grant: &Grant,
        rows: Rows,
        table: &str,
        build: impl FnOnce(DataFrame) -> Result<DataFrame, Error>,
    ) -> Result<Answer, Error> {
        self.ask_known(grant, rows, table, table, build).await
    }

    /// A question about a table, or about what is made of it under a name of its own.
    async fn ask_known(
        &self,
        grant: &Grant,
        rows: Rows,
        table: &str,
        name: &str,
        build: impl FnOnce(DataFrame) -> Result<DataFrame, Error>,
    ) -> Result<Answer, Error> {
        let started = Started::at_place(&self.shared, grant).await?;
        let plan = async {
            let known = self.known(table).await?;
            self.session(&known, grant, rows)?.plan_on(name, build).await
        };
        let plan = started.in_time(plan).await?;
        started.answer(plan).await
    }

    /// What is known of the lake, with this table in it.
    pub(crate) async fn known(&self, table: &str) -> Result<Arc<Known>, Error> {
        let mut known = self.shared.catalog.tables().await?;
        if !known.tables.contains_key(table) {
            known = self.shared.catalog.tables_again().await?;
        }
        if known.tables.contains_key(table) {
            return Ok(known);
        }
        let names: Vec<&str> = known.tables.keys().map(String::as_str).collect();
        Err(Error::NotFound(format!("there is no table `{table}`; there are {}", names.join(", "))))
    }

    fn session(&self, known: &Arc<Known>, grant: &Grant, rows: Rows) -> Result<Session, Error> {
        let tables = Tables {
            lake: self.shared.catalog.lake().clone(),
            tail: self.shared.tail.clone().filter(|_| rows == Rows::LakeAndTail),
            version: if let Rows::Version(version) = rows { Some(version) } else { None },
            grant: grant.clone(),
        };
        self.shared.sessions.session(tables, known)
    }
}

/// A question that has its place, held by its effort, and its deadline.
struct Started {
    effort: Arc<Effort>,
    deadline: tokio::time::Instant,
    time_max: std::time::Duration,
    rows_max: usize,
}

impl Started {
    async fn at_place(shared: &Shared, grant: &Grant) -> Result<Started, Error> {
        let place = shared.places.take(grant).await?;
        let (places, threads) = (shared.places.clone(), shared.long_threads.clone());
        let effort = Arc::new(Effort::new(&shared.config, places, place, threads));
        let time_max = shared.config.time_max;
        let deadline = tokio::time::Instant::from_std(Instant::now() + time_max);
        Ok(Started { effort, deadline, time_max, rows_max: shared.config.rows_max })
    }

    /// What comes of work, where it ends in time.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout_at(self.deadline, work).await.unwrap_or_else(|_| Err(too_long(self.time_max)))
    }

    /// Runs a plan until its first rows are there, so that most mistakes show before anything is answered.
    async fn answer(self, plan: Plan) -> Result<Answer, Error> {
        let (plan, context) = self.in_time(plan.physical()).await?;
        let batches = execute_stream(movable(plan, &self.effort)?, context)?;
        let schema = batches.schema();
        let mut batches = self.limited(batches).fuse().boxed();
        let first = batches.next().await.transpose()?;
        let batches = stream::iter(first.map(Ok)).chain(batches).boxed();
        Ok(Answer { schema, batches })
    }

    /// These batches, as far as there may be. They end at the deadline whether somebody takes them or not: a client
    /// that stops reading must not keep a place, memory and files.
    fn limited(
        self,
        batches: SendableRecordBatchStream,
    ) -> impl Stream<Item = Result<RecordBatch, Error>> + Send {
        let (deadline, time_max, rows_max) = (self.deadline, self.time_max, self.rows_max);
        let held = Arc::new(Mutex::new(Some((batches, self))));
        let letting_go = held.clone();
        let timer = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep_until(deadline).await;
            lock(&letting_go).take();
        }));
        stream::unfold(Some((0, held, timer)), move |state| async move {
            let (mut rows, held, timer) = state?;
            let next = poll_fn(|context| match &mut *lock(&held) {
                Some((batches, _)) => batches.poll_next_unpin(context).map(Some),
                None => Poll::Ready(None),
            });
            match tokio::time::timeout_at(deadline, next).await.unwrap_or(None) {
                Some(Some(Ok(batch))) => {
                    rows += batch.num_rows();
                    match rows > rows_max {
                        true => Some((Err(too_many_rows(rows_max)), None)),
                        false => Some((Ok(batch), Some((rows, held, timer)))),
                    }
                }
                Some(Some(Err(error))) => Some((Err(error.into()), None)),
                Some(None) => None,
                None => Some((Err(too_long(time_max)), None)),
            }
        })
    }
}

/// What a question still holds.
type Held = Mutex<Option<(SendableRecordBatchStream, Started)>>;

fn lock(held: &Held) -> MutexGuard<'_, Option<(SendableRecordBatchStream, Started)>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn too_long(time_max: std::time::Duration) -> Error {
    Error::Limit(format!(
        "the answer takes longer than {} s; ask for less, or for a shorter time",
        time_max.as_secs()
    ))
}

fn too_many_rows(rows_max: usize) -> Error {
    Error::Limit(format!(
        "the answer has more than {rows_max} rows; ask for less, or page by page at /api/v1/{{domain}}/readings"
    ))
}

impl Answer {
    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows, as they come.
    pub fn into_batches(self) -> BoxStream<'static, Result<RecordBatch, Error>> {
        self.batches
    }

    /// All rows at once.
    pub async fn collect(self) -> Result<Vec<RecordBatch>, Error> {
        self.batches.try_collect().await
    }
}
