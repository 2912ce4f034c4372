//! `/internal/v1/tail/{table}`: our own tail for other processes, from one instant.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, UInt64Array},
    datatypes::{DataType, Field, Schema, SchemaRef},
    ipc::writer::StreamWriter,
};
use axum::{
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;
use zeugma_lake::{
    layout,
    seam::{TailBatch, TailView},
};

use super::App;
use crate::{
    Error,
    encode::Form,
    problem::Problem,
    remote_tail::{POSITION, RELEASED_THROUGH, SOURCE},
};

/// Batches with a column of positions; source and release in the headers.
pub async fn tail(State(app): State<App>, Path(table): Path<String>) -> Result<Response, Problem> {
    let tail = app.query.tail().ok_or_else(|| Error::NotFound("there is no tail here".into()))?;
    let view = match tail.view(&table).await {
        // Not the status of a path that does not exist: whoever asks elsewhere by mistake must notice.
        Err(zeugma_lake::Error::NoTable { .. }) => return Ok(StatusCode::NO_CONTENT.into_response()),
        view => view.map_err(Error::from)?,
    };
    let headers = [
        (header::CONTENT_TYPE.as_str(), Form::Arrow.media_type().to_owned()),
        (SOURCE, view.source.clone()),
        (RELEASED_THROUGH, view.released_through.to_string()),
    ];
    Ok((headers, body(view)?).into_response())
}

fn body(view: TailView) -> Result<Body, Error> {
    // Schemas only grow, so the batch with the most columns has those of all others.
    let widest =
        view.batches.iter().map(|batch| batch.rows.schema()).max_by_key(|columns| columns.fields().len());
    let Some(columns) = widest else { return Ok(Body::empty()) };
    let sent = with_position(&columns);
    let writer = StreamWriter::try_new(Vec::new(), &sent)?;
    let state = (writer, view.batches.into_iter(), true);
    let chunks = stream::try_unfold(state, move |(mut writer, mut batches, open)| {
        let written = match (batches.next(), open) {
            (Some(batch), _) => write(&mut writer, &batch, &columns, &sent).map(|()| true),
            (None, true) => writer.finish().map_err(Error::from).map(|()| false),
            (None, false) => return std::future::ready(Ok(None)),
        };
        let chunk = written
            .map(|open| Some((Bytes::from(std::mem::take(writer.get_mut())), (writer, batches, open))));
        std::future::ready(chunk)
    });
    Ok(Body::from_stream(chunks))
}

fn with_position(columns: &SchemaRef) -> SchemaRef {
    let position = Field::new(POSITION, DataType::UInt64, false);
    let fields = columns.fields().iter().map(|field| Field::clone(field)).chain([position]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn write(
    writer: &mut StreamWriter<Vec<u8>>,
    batch: &TailBatch,
    columns: &SchemaRef,
    sent: &SchemaRef,
) -> Result<(), Error> {
    let mut values = layout::conform(&batch.rows, columns)?.columns().to_vec();
    values.push(Arc::new(UInt64Array::from(batch.positions.to_vec())) as ArrayRef);
    Ok(writer.write(&RecordBatch::try_new(sent.clone(), values)?)?)
}
