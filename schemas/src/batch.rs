//! Checked readings become rows: Arrow record batches in the columns of the domain's table.
//!
//! Avro frames go through `arrow-avro`, one decoder for each version of the schema they were written with, kept as
//! long as the builder; JSON values are appended as they are. Rows come out in the order in which readings went in.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BooleanBuilder, Date32Array, Float32Builder, Float64Builder, Int32Builder,
        Int64Builder, PrimitiveArray, RecordBatch, StringViewBuilder, TimestampMicrosecondArray,
        TimestampMicrosecondBuilder, new_null_array,
    },
    compute::{cast, concat_batches, interleave_record_batch},
    datatypes::SchemaRef,
    error::ArrowError,
};
use arrow_avro::{
    reader::{Decoder, ReaderBuilder},
    schema::{Fingerprint, SchemaStore},
};

use crate::{
    domain::Domain,
    payload::{Cell, Content, Reading},
    schema::{Field, Kind, Schema},
};

/// Microseconds of a day.
pub const DAY_US: i64 = 86_400_000_000;

/// Rows that one decoder gathers before it makes a batch of them.
const DECODER_ROWS: usize = 8_192;

/// The UTC date of a moment, in days since 1970.
pub fn date_of(time_us: i64) -> i32 {
    // Times of readings lie within years 2000 and 292278, so the day always fits.
    time_us.div_euclid(DAY_US) as i32
}

/// Whose reading it is and when it came.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Tenant of the topic.
    pub tenant: &'a str,
    /// Device of the topic.
    pub device: &'a str,
    /// When ingest took it, microseconds since 1970.
    pub received_at_us: i64,
}

/// Gathers readings of one domain.
pub struct Builder {
    domain: Arc<Domain>,
    rows: usize,
    frames: BTreeMap<usize, Frames>,
    cells: Cells,
}

impl Builder {
    /// An empty builder.
    pub fn new(domain: Arc<Domain>) -> Builder {
        let cells = Cells::new(&domain);
        Builder { domain, rows: 0, frames: BTreeMap::new(), cells }
    }

    /// The domain whose rows it builds.
    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// How many readings it holds.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Takes a reading that [`crate::payload::readings`] found whole.
    pub fn push(&mut self, origin: Origin<'_>, reading: &Reading<'_>) {
        match &reading.content {
            Content::Avro { version } => {
                let frames = self.frames.entry(*version).or_default();
                frames.common.push(self.rows, origin, reading.time_us);
                frames.bytes.extend_from_slice(reading.bytes);
            }
            Content::Json { cells, extra } => {
                self.cells.common.push(self.rows, origin, reading.time_us);
                self.cells.push(cells, extra.as_deref());
            }
        }
        self.rows += 1;
    }

    /// All rows so far, in the order of their pushes; the builder is empty again.
    ///
    /// # Errors
    /// Only where a decoder refuses what the check let through, which would be a mistake of ours.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let mut parts = Vec::new();
        for (version, frames) in &mut self.frames {
            let common = std::mem::take(&mut frames.common);
            if !common.rows.is_empty() {
                parts.push(common.assemble(&self.domain, &frames.decode(&self.domain, *version)?, None)?);
            }
        }
        if !self.cells.common.rows.is_empty() {
            // Builders of text grow with every use, so these are not kept.
            let cells = std::mem::replace(&mut self.cells, Cells::new(&self.domain));
            parts.push(cells.assemble(&self.domain)?);
        }
        in_push_order(self.domain.columns(), std::mem::take(&mut self.rows), parts)
    }
}

/// The columns that do not stand in the payload.
#[derive(Default)]
struct Common {
    rows: Vec<usize>,
    tenant: StringViewBuilder,
    device: StringViewBuilder,
    time_us: Vec<i64>,
    received_at_us: Vec<i64>,
}

impl Common {
    fn push(&mut self, row: usize, origin: Origin<'_>, time_us: i64) {
        self.rows.push(row);
        self.tenant.append_value(origin.tenant);
        self.device.append_value(origin.device);
        self.time_us.push(time_us);
        self.received_at_us.push(origin.received_at_us);
    }

    /// Puts the table's columns together: these, the payload's own, nulls for what it cannot hold.
    fn assemble(
        mut self,
        domain: &Domain,
        own: &RecordBatch,
        extra: Option<ArrayRef>,
    ) -> Result<Part, ArrowError> {
        let dates = Date32Array::from_iter_values(self.time_us.iter().map(|time_us| date_of(*time_us)));
        let dates: ArrayRef = Arc::new(dates);
        let rows = self.rows.len();
        let columns = domain.columns().fields().iter().map(|field| -> Result<ArrayRef, ArrowError> {
            Ok(match field.name().as_str() {
                "tenant" => Arc::new(self.tenant.finish()),
                "device" => Arc::new(self.device.finish()),
                "time" => times(std::mem::take(&mut self.time_us)),
                "received_at" => times(std::mem::take(&mut self.received_at_us)),
                "extra" => extra.clone().unwrap_or_else(|| new_null_array(field.data_type(), rows)),
                "date" => dates.clone(),
                name => match own.column_by_name(name) {
                    Some(column) if column.data_type() == field.data_type() => column.clone(),
                    Some(column) => cast(column, field.data_type())?,
                    None => new_null_array(field.data_type(), rows),
                },
            })
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok((self.rows, RecordBatch::try_new(domain.columns().clone(), columns)?))
    }
}

/// Rows of one origin, and their places among all.
type Part = (Vec<usize>, RecordBatch);

/// Avro frames of one version, back to back.
#[derive(Default)]
struct Frames {
    common: Common,
    bytes: Vec<u8>,
    /// Made when it is first needed: it parses both schemas.
    decoder: Option<Decoder>,
}

impl Frames {
    /// The rows of all frames, in the columns of the domain's newest schema; the frames are gone.
    fn decode(&mut self, domain: &Domain, version: usize) -> Result<RecordBatch, ArrowError> {
        let bytes = std::mem::take(&mut self.bytes);
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => none.insert(decoder(&domain.versions()[version], domain.newest())?),
        };
        let (mut frames, mut batches) = (bytes.as_slice(), Vec::new());
        while !frames.is_empty() {
            let taken = decoder.decode(frames)?;
            if taken == 0 && !decoder.batch_is_full() {
                return Err(ArrowError::AvroError("a frame that was found whole is incomplete".into()));
            }
            frames = &frames[taken..];
            batches.extend(decoder.flush()?);
        }
        concat_batches(&decoder.schema(), &batches)
    }
}

/// Values of JSON readings, column by column.
struct Cells {
    common: Common,
    fields: Vec<Column>,
    extra: StringViewBuilder,
}

/// A column that grows cell by cell.
enum Column {
    Boolean(BooleanBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Text(StringViewBuilder),
    Time(TimestampMicrosecondBuilder),
}

impl Cells {
    fn new(domain: &Domain) -> Cells {
        let fields = domain.newest().fields.iter().map(Column::new).collect();
        Cells { common: Common::default(), fields, extra: StringViewBuilder::new() }
    }

    fn push(&mut self, cells: &[Cell], extra: Option<&str>) {
        for (column, cell) in self.fields.iter_mut().zip(cells) {
            column.push(cell);
        }
        self.extra.append_option(extra);
    }

    fn assemble(mut self, domain: &Domain) -> Result<Part, ArrowError> {
        let columns = domain.newest().fields.iter().zip(&mut self.fields);
        let columns = columns.map(|(field, column)| (field.name.as_str(), column.finish(), true));
        let own = RecordBatch::try_from_iter_with_nullable(columns)?;
        self.common.assemble(domain, &own, Some(Arc::new(self.extra.finish())))
    }
}

impl Column {
    fn new(field: &Field) -> Column {
        match field.kind {
            Kind::Boolean => Column::Boolean(BooleanBuilder::new()),
            Kind::Int => Column::Int(Int32Builder::new()),
            Kind::Long => Column::Long(Int64Builder::new()),
            Kind::Float => Column::Float(Float32Builder::new()),
            Kind::Double => Column::Double(Float64Builder::new()),
            Kind::Text => Column::Text(StringViewBuilder::new()),
            Kind::Time => {
                Column::Time(TimestampMicrosecondBuilder::new().with_data_type(field.kind.data_type()))
            }
        }
    }

    /// Appends a cell; one of another type than the column's cannot come, and would be null.
    fn push(&mut self, cell: &Cell) {
        match (self, cell) {
            (Column::Boolean(builder), cell) => {
                builder.append_option(if let Cell::Boolean(value) = cell { Some(*value) } else { None });
            }
            (Column::Int(builder), cell) => {
                builder.append_option(integer(cell).and_then(|value| i32::try_from(value).ok()));
            }
            (Column::Long(builder), cell) => builder.append_option(integer(cell)),
            (Column::Time(builder), cell) => builder.append_option(integer(cell)),
            (Column::Float(builder), cell) => builder.append_option(float(cell).map(|value| value as f32)),
            (Column::Double(builder), cell) => builder.append_option(float(cell)),
            (Column::Text(builder), cell) => {
                builder.append_option(if let Cell::Text(text) = cell { Some(text) } else { None });
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Column::Boolean(builder) => Arc::new(builder.finish()),
            Column::Int(builder) => Arc::new(builder.finish()),
            Column::Long(builder) => Arc::new(builder.finish()),
            Column::Float(builder) => Arc::new(builder.finish()),
            Column::Double(builder) => Arc::new(builder.finish()),
            Column::Text(builder) => Arc::new(builder.finish()),
            Column::Time(builder) => Arc::new(builder.finish()),
        }
    }
}

fn integer(cell: &Cell) -> Option<i64> {
    if let Cell::Integer(value) = cell { Some(*value) } else { None }
}

fn float(cell: &Cell) -> Option<f64> {
    if let Cell::Float(value) = cell { Some(*value) } else { None }
}

/// A decoder of frames that `writer` wrote, which answers rows as `reader` has them.
fn decoder(writer: &Schema, reader: &Schema) -> Result<Decoder, ArrowError> {
    let mut store = SchemaStore::new();
    let fingerprint = Fingerprint::Rabin(writer.fingerprint);
    store.set(fingerprint, writer.avro())?;
    ReaderBuilder::new()
        .with_writer_schema_store(store)
        .with_active_fingerprint(fingerprint)
        .with_reader_schema(reader.avro())
        .with_utf8_view(true)
        .with_batch_size(DECODER_ROWS)
        .build_decoder()
}

fn times(times_us: Vec<i64>) -> ArrayRef {
    let times: TimestampMicrosecondArray = PrimitiveArray::from(times_us);
    Arc::new(times.with_timezone("UTC"))
}

/// Brings the rows of several batches back into the order in which they were pushed.
fn in_push_order(columns: &SchemaRef, rows: usize, mut parts: Vec<Part>) -> Result<RecordBatch, ArrowError> {
    if parts.len() <= 1 {
        return Ok(parts.pop().map_or_else(|| RecordBatch::new_empty(columns.clone()), |(_, batch)| batch));
    }
    let mut places = vec![(0, 0); rows];
    for (part, (order, _)) in parts.iter().enumerate() {
        for (row, pushed) in order.iter().enumerate() {
            places[*pushed] = (part, row);
        }
    }
    let batches: Vec<&RecordBatch> = parts.iter().map(|(_, batch)| batch).collect();
    interleave_record_batch(&batches, &places)
}

#[cfg(test)]
mod tests;
