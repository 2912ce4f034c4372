//! The tail of another process, asked over HTTP.

use std::{sync::Arc, time::Duration};

use arrow::{array::AsArray, datatypes::UInt64Type, ipc::reader::StreamReader};
use futures::{
    StreamExt,
    future::{BoxFuture, FutureExt},
    stream,
};
use reqwest::{Client, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use zeugma_lake::{
    Error, Position,
    seam::{Feed, News, Tail, TailBatch, TailView},
};

use crate::error::with_causes;

/// Header with the journal that positions belong to.
pub(crate) const SOURCE: &str = "zeugma-source";
/// Header with the last position that the tail no longer has.
pub(crate) const RELEASED_THROUGH: &str = "zeugma-released-through";
/// Header with the first version whose rows are all still there.
pub(crate) const VERSION_MIN: &str = "zeugma-version-min";
/// Column with the position of each row.
pub(crate) const POSITION: &str = "_position";

/// A feed says at least this often that it lives.
pub(crate) const ALIVE: Duration = Duration::from_secs(10);

/// Longest time for a tail to arrive: a commit follows every few seconds, so it is small.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// Largest tail of a table that is taken; the ingest process holds the same bytes in its memory.
const TAIL_BYTES_MAX: usize = 1 << 30;

/// The tails of an ingest process elsewhere.
#[derive(Debug, Clone)]
pub struct RemoteTail {
    client: Client,
    /// Ends with a slash; a table's name follows.
    tails: Url,
    health: Url,
    feed: Url,
}

impl RemoteTail {
    /// The tails of the process whose HTTP interface is at this URL.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] where it is no `http:` or `https:` URL.
    pub fn new(url: &str) -> Result<RemoteTail, crate::Error> {
        let invalid =
            |why: String| crate::Error::Invalid(format!("`{url}` is no address of an ingest: {why}"));
        let mut tails = Url::parse(url).map_err(|error| invalid(error.to_string()))?;
        if !matches!(tails.scheme(), "http" | "https") {
            return Err(invalid("write http://HOST:PORT".into()));
        }
        let base = tails.path().trim_end_matches('/').to_owned();
        let mut health = tails.clone();
        health.set_path(&format!("{base}/healthz"));
        let mut feed = health.clone();
        feed.set_path(&format!("{base}/internal/v1/live"));
        tails.set_path(&format!("{base}/internal/v1/tail/"));
        // Somebody may have chosen one before; then it stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().connect_timeout(CONNECT_TIME_MAX).timeout(ANSWER_TIME_MAX).build();
        let client = client.map_err(|error| invalid(error.to_string()))?;
        Ok(RemoteTail { client, tails, health, feed })
    }

    /// Whether the process lives.
    ///
    /// # Errors
    /// Where it does not, with what to do.
    pub async fn answers(&self) -> Result<(), Error> {
        let answer = self.client.get(self.health.clone()).send().await.map_err(failed)?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(Error::Tail(format!("it answers {status}"))),
        }
    }

    async fn ask_feed(&self, tables: &[String]) -> Result<Feed, Error> {
        let mut url = self.feed.clone();
        url.query_pairs_mut().append_pair("domain", &tables.join(","));
        // Frames come for as long as they are read; a silent feed is noticed below.
        let response = self.client.get(url).timeout(Duration::MAX).send().await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            return Err(Error::Tail(format!("it answers {}", response.status())));
        }
        let frames = Frames { response, bytes: Vec::new() };
        let news = stream::try_unfold(frames, |mut frames| async {
            Ok(frames.next().await?.map(|news| (news, frames)))
        });
        Ok(news.boxed())
    }

    async fn ask(&self, table: &str) -> Result<TailView, Error> {
        let url = self.tails.join(table).map_err(|error| Error::Tail(error.to_string()))?;
        let response = self.client.get(url).send().await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => read(response).await,
            StatusCode::NO_CONTENT => Err(Error::NoTable { table: table.to_owned() }),
            status => Err(Error::Tail(format!("it answers {status}"))),
        }
    }
}

impl Tail for RemoteTail {
    fn view<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<TailView, Error>> {
        self.ask(table).boxed()
    }

    fn follow<'a>(&'a self, tables: &'a [String]) -> BoxFuture<'a, Result<Feed, Error>> {
        self.ask_feed(tables).boxed()
    }
}

/// What a frame of a feed says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Nothing, but that the feed lives.
    Alive,
    /// As [`News::Begin`].
    Begin,
    /// As [`News::Rows`].
    Rows,
    /// As [`News::Missed`].
    Missed,
}

/// A frame of a feed; rows of so many bytes follow it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Frame {
    /// What it says.
    pub kind: Kind,
    /// The table.
    pub table: String,
    /// Journal that the positions belong to.
    pub source: String,
    /// The position that it speaks of.
    pub through: Position,
    /// Length of the rows.
    pub bytes: usize,
}

impl Frame {
    /// A frame that says no more than that.
    pub fn of(kind: Kind) -> Frame {
        Frame { kind, table: String::new(), source: String::new(), through: 0, bytes: 0 }
    }
}

/// Frames of a feed as they arrive.
struct Frames {
    response: Response,
    bytes: Vec<u8>,
}

impl Frames {
    /// The next news; none behind the last.
    async fn next(&mut self) -> Result<Option<News>, Error> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let frame: Frame = serde_json::from_slice(&self.bytes[..end])
                    .map_err(|error| Error::Tail(format!("its feed is malformed: {error}")))?;
                if frame.bytes > TAIL_BYTES_MAX {
                    return Err(Error::Tail(format!(
                        "its feed has more than {TAIL_BYTES_MAX} bytes at once"
                    )));
                }
                let from = end + 1;
                while self.bytes.len() < from + frame.bytes {
                    if !self.more().await? {
                        return Ok(None);
                    }
                }
                let rows: Vec<u8> = self.bytes.drain(..from + frame.bytes).skip(from).collect();
                if let Some(news) = news(frame, &rows)? {
                    return Ok(Some(news));
                }
            } else if !self.more().await? {
                return Ok(None);
            }
        }
    }

    async fn more(&mut self) -> Result<bool, Error> {
        let chunk = tokio::time::timeout(3 * ALIVE, self.response.chunk()).await;
        let chunk = chunk.map_err(|_| Error::Tail("its feed is silent".into()))?.map_err(failed)?;
        Ok(chunk.inspect(|chunk| self.bytes.extend_from_slice(chunk)).is_some())
    }
}

/// What a frame says, with the rows that follow it; none where it only lives.
fn news(Frame { kind, table, source, through, .. }: Frame, rows: &[u8]) -> Result<Option<News>, Error> {
    Ok(match kind {
        Kind::Alive => None,
        Kind::Begin => Some(News::Begin { table, source, through }),
        Kind::Rows => decode(rows)?.pop().map(|batch| News::Rows { table, source, batch, through }),
        Kind::Missed => Some(News::Missed),
    })
}

async fn read(response: Response) -> Result<TailView, Error> {
    let text =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let missing = |name: &str| Error::Tail(format!("its answer has no usable header `{name}`"));
    let source = text(SOURCE).ok_or_else(|| missing(SOURCE))?;
    let number = |name: &str| text(name).and_then(|text| text.parse().ok()).ok_or_else(|| missing(name));
    let (released_through, version_min) = (number(RELEASED_THROUGH)?, number(VERSION_MIN)?);
    let bytes = bytes(response).await?;
    let batches = if bytes.is_empty() { Vec::new() } else { decode(&bytes)? };
    // What the other process has sealed came as rows.
    Ok(TailView { source, released_through, version_min, batches, sealed: Vec::new() })
}

async fn bytes(mut response: Response) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > TAIL_BYTES_MAX {
            return Err(Error::Tail(format!("it is larger than {TAIL_BYTES_MAX} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Vec<TailBatch>, Error> {
    let malformed = || Error::Tail(format!("its answer has no column `{POSITION}` of positions"));
    let mut batches = Vec::new();
    for rows in StreamReader::try_new(bytes, None)? {
        let mut rows = rows?;
        let column = rows.schema().index_of(POSITION).map_err(|_| malformed())?;
        let positions = rows.remove_column(column);
        let positions = positions.as_primitive_opt::<UInt64Type>().ok_or_else(malformed)?;
        let positions: Arc<[u64]> = positions.values().iter().copied().collect();
        batches.push(TailBatch { rows, positions });
    }
    Ok(batches)
}

fn failed(error: reqwest::Error) -> Error {
    let error = error.without_url();
    Error::Tail(format!(
        "{}; is `zeugma ingest` running where --tail says? With `?tail=off` the lake alone is asked",
        with_causes(&error)
    ))
}
