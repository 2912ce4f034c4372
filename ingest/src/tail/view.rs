//! What others see of the tail: queries a view of one instant, followers each batch as it becomes visible.

use futures::{
    FutureExt, StreamExt,
    future::{self, BoxFuture},
    stream,
};
use tokio::sync::broadcast::error::RecvError;
use zeugma_lake::{
    Error as LakeError,
    seam::{self, Feed, News, TailView},
};

use super::Tail;

impl seam::Tail for Tail {
    fn view<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<TailView, LakeError>> {
        Box::pin(async move {
            let state = self.state();
            let tail = state.tables.get(table);
            let tail = tail.ok_or_else(|| LakeError::NoTable { table: table.to_owned() })?;
            Ok(TailView {
                source: self.shared.source.clone(),
                released_through: tail.released_through,
                version_min: tail.version_min,
                batches: tail.in_memory().cloned().collect(),
                sealed: tail.sealed.clone(),
            })
        })
    }

    fn follow<'a>(&'a self, tables: &'a [String]) -> BoxFuture<'a, Result<Feed, LakeError>> {
        let (begin, news) = {
            // What is added from now on is told, as that is done under this lock.
            let state = self.state();
            let begin = |table: &String| News::Begin {
                table: table.clone(),
                source: self.shared.source.clone(),
                through: state.decided_through(table),
            };
            (tables.iter().map(begin).collect::<Vec<_>>(), self.shared.news.subscribe())
        };
        let tables = tables.to_owned();
        let feed = stream::unfold(news, |mut news| async {
            match news.recv().await {
                Ok(some) => Some((some, news)),
                Err(RecvError::Lagged(_)) => Some((News::Missed, news)),
                Err(RecvError::Closed) => None,
            }
        });
        let wanted = move |news: &News| match news {
            News::Begin { table, .. } | News::Rows { table, .. } => tables.contains(table),
            News::Missed => true,
        };
        let feed = feed.filter(move |news| future::ready(wanted(news)));
        let feed = stream::iter(begin).chain(feed).map(Ok).boxed();
        future::ready(Ok(feed)).boxed()
    }
}
