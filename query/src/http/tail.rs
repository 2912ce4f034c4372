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
use futures::{Stream, StreamExt, TryStreamExt, stream};
use zeugma_lake::{
    Sealed, find, layout,
    seam::{TailBatch, TailView},
};

use super::App;
use crate::{
    Error,
    encode::Form,
    problem::Problem,
    remote_tail::{POSITION, RELEASED_THROUGH, SOURCE, VERSION_MIN},
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
        (VERSION_MIN, view.version_min.to_string()),
    ];
    Ok((headers, body(view)?).into_response())
}

fn body(view: TailView) -> Result<Body, Error> {
    // Schemas only grow, so those with the most columns have all others'.
    let in_memory = view.batches.iter().map(|batch| batch.rows.schema_ref());
    let all = in_memory.chain(view.sealed.iter().map(|sealed| sealed.columns()));
    let Some(columns) = all.max_by_key(|columns| columns.fields().len()).cloned() else {
        return Ok(Body::empty());
    };
    let sent = with_position(&columns);
    let writer = StreamWriter::try_new(Vec::new(), &sent)?;
    let rows = rows(view, columns).boxed();
    let chunks = stream::try_unfold((writer, rows, true), move |(mut writer, mut rows, open)| {
        let sent = sent.clone();
        async move {
            let open = match rows.next().await {
                Some(batch) => write(&mut writer, &batch?, &sent).map(|()| true)?,
                None if open => writer.finish().map(|()| false)?,
                None => return Ok::<_, Error>(None),
            };
            Ok(Some((Bytes::from(std::mem::take(writer.get_mut())), (writer, rows, open))))
        }
    });
    Ok(Body::from_stream(chunks))
}

/// All rows of a tail in these columns, in memory first; sealed ones are read as they are sent.
fn rows(view: TailView, columns: SchemaRef) -> impl Stream<Item = Result<TailBatch, Error>> + Send {
    let in_memory = stream::iter(view.batches.into_iter().map(Ok));
    let wanted = columns.clone();
    let sealed = stream::iter(view.sealed).flat_map(move |sealed| read_sealed(sealed, wanted.clone()));
    in_memory.chain(sealed).map(move |batch: Result<TailBatch, Error>| {
        let TailBatch { rows, positions } = batch?;
        Ok(TailBatch { rows: layout::conform(&rows, &columns)?, positions })
    })
}

/// Sealed rows are committed all or none, so the last position of all of them stands for each.
pub fn read_sealed(
    sealed: Arc<Sealed>,
    columns: SchemaRef,
) -> impl Stream<Item = Result<TailBatch, Error>> + Send {
    let files: Vec<_> = sealed.files().cloned().collect();
    let batches = stream::iter(files).then(move |file| {
        let (sealed, columns) = (sealed.clone(), columns.clone());
        async move {
            let last = *sealed.positions().end();
            let rows = find::read(&sealed.store(), &file, &columns).await?;
            let held = move |rows: &Result<RecordBatch, _>| {
                let _held = (&sealed, rows);
            };
            Ok::<_, Error>(rows.inspect(held).map(move |rows| {
                let rows = rows?;
                let positions = vec![last; rows.num_rows()].into();
                Ok(TailBatch { rows, positions })
            }))
        }
    });
    batches.try_flatten()
}

/// The columns, and that of positions behind them.
pub fn with_position(columns: &SchemaRef) -> SchemaRef {
    let position = Field::new(POSITION, DataType::UInt64, false);
    let fields = columns.fields().iter().map(|field| Field::clone(field)).chain([position]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Writes rows with their positions.
pub fn write(writer: &mut StreamWriter<Vec<u8>>, batch: &TailBatch, sent: &SchemaRef) -> Result<(), Error> {
    let mut values = batch.rows.columns().to_vec();
    values.push(Arc::new(UInt64Array::from(batch.positions.to_vec())) as ArrayRef);
    Ok(writer.write(&RecordBatch::try_new(sent.clone(), values)?)?)
}
