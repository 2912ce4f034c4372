//! `/internal/v1/live?domain=fleet`: what becomes visible in our own tail, for other processes.
//!
//! Frames, each a line of JSON ([`Frame`]) and as many bytes as it says: an Arrow stream of rows with a column of
//! positions. A frame without rows comes while nothing happens, so that a dead connection is noticed.

use arrow::ipc::writer::StreamWriter;
use axum::{
    body::Body,
    extract::{RawQuery, State},
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use zeugma_lake::seam::{Feed, News};

use super::{App, params::Params, tail};
use crate::{
    Error,
    problem::Problem,
    remote_tail::{ALIVE, Frame, Kind},
};

/// News of the domains that are named.
pub async fn feed(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let params = Params::read(query.as_deref(), &["domain"])?;
    let domains: Vec<String> = params.list("domain").into_iter().map(str::to_owned).collect();
    let tail = app.query.tail().ok_or_else(|| Error::NotFound("there is no tail here".into()))?;
    let feed = tail.follow(&domains).await.map_err(Error::from)?;
    let feed = feed.take_until(app.stopping.clone().cancelled_owned()).boxed();
    let frames = stream::try_unfold(feed, |feed: Feed| async { next(feed).await });
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(frames)).into_response())
}

async fn next(mut feed: Feed) -> Result<Option<(Bytes, Feed)>, Error> {
    let frame = match tokio::time::timeout(ALIVE, feed.next()).await {
        Err(_) => encode(&Frame::of(Kind::Alive), &[])?,
        Ok(None) => return Ok(None),
        Ok(Some(news)) => match news? {
            News::Missed => encode(&Frame::of(Kind::Missed), &[])?,
            News::Begin { table, source, through } => {
                encode(&Frame { table, source, through, ..Frame::of(Kind::Begin) }, &[])?
            }
            News::Rows { table, source, batch, through } => {
                let columns = tail::with_position(batch.rows.schema_ref());
                let mut writer = StreamWriter::try_new(Vec::new(), &columns)?;
                tail::write(&mut writer, &batch, &columns)?;
                writer.finish()?;
                let rows = writer.into_inner()?;
                let frame = Frame { table, source, through, bytes: rows.len(), ..Frame::of(Kind::Rows) };
                encode(&frame, &rows)?
            }
        },
    };
    Ok(Some((frame, feed)))
}

fn encode(frame: &Frame, rows: &[u8]) -> Result<Bytes, Error> {
    let mut bytes = serde_json::to_vec(frame).map_err(|error| Error::Internal(error.to_string()))?;
    bytes.push(b'\n');
    bytes.extend_from_slice(rows);
    Ok(bytes.into())
}
