//! Our reader, as a city has it: of a lake, and of a tail in which nothing waits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{
    FutureExt, StreamExt,
    future::{self, BoxFuture},
    stream,
};
use zeugma_lake::{
    Error, Lake,
    seam::{Feed, Tail, TailView},
};
use zeugma_query::{Config, Grant, Query};

use crate::{
    answer::{self, Columns},
    keep::SOURCE,
};

/// A tail of which everything is committed.
#[derive(Debug)]
struct Empty;

impl Tail for Empty {
    fn view<'a>(&'a self, _table: &'a str) -> BoxFuture<'a, Result<TailView, Error>> {
        let view = TailView { source: SOURCE.to_owned(), ..TailView::default() };
        future::ready(Ok(view)).boxed()
    }

    fn follow<'a>(&'a self, _tables: &'a [String]) -> BoxFuture<'a, Result<Feed, Error>> {
        future::ready(Ok(stream::pending().boxed())).boxed()
    }
}

/// The reader of a lake, with twice the time that a question has by default.
pub fn ours(lake: &Lake) -> anyhow::Result<Query> {
    let config = Config { time_max: Duration::from_secs(120), ..Config::default() };
    Ok(Query::new(lake.clone(), Some(Arc::new(Empty)), config)?)
}

/// Asks, and answers after how many milliseconds the last row was there.
pub async fn ask(query: &Query, sql: &str) -> anyhow::Result<(f64, Columns)> {
    let started = Instant::now();
    let batches = query.sql(&Grant::All, sql).await?;
    let ms = started.elapsed().as_secs_f64() * 1e3;
    Ok((ms, answer::columns(&batches)?))
}
