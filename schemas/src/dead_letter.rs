//! Dead letters: payloads and readings that could not be accepted, kept with the reason.
//!
//! A dead letter is identified by (source, position, index): the journal it came by, its record there,
//! and which of the record's readings it is. Its bytes are kept, so that a mended schema can replay it.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{
        ArrayRef, BinaryBuilder, Date32Builder, Int64Builder, RecordBatch, StringViewBuilder,
        TimestampMicrosecondBuilder,
    },
    datatypes::{DataType, Schema as ArrowSchema, SchemaRef},
    error::ArrowError,
};

use crate::{domain::column, schema::Kind};

/// The table's name.
pub const TABLE: &str = "dead_letters";

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The topic has another shape than `city/v1/{tenant}/{domain}/{device}`.
    Topic,
    /// The payload is larger than is accepted; its beginning, length and hash are kept.
    TooLarge,
    /// There is no schema for the topic's domain.
    UnknownDomain,
    /// The Avro frame was written with a schema that the topic's domain does not have.
    UnknownFingerprint,
    /// The bytes are not what the schema says.
    Content,
    /// The reading's time lies more than 5 minutes ahead of its arrival, or before 2000.
    Clock,
    /// Another reading with this tenant, domain, device and time, but other fields, came first.
    Conflict,
}

impl Reason {
    /// All reasons, in the order in which a payload can meet them.
    pub const ALL: [Reason; 7] = [
        Reason::Topic,
        Reason::TooLarge,
        Reason::UnknownDomain,
        Reason::UnknownFingerprint,
        Reason::Content,
        Reason::Clock,
        Reason::Conflict,
    ];

    /// The reason as it stands in the table and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Topic => "topic",
            Reason::TooLarge => "too_large",
            Reason::UnknownDomain => "unknown_domain",
            Reason::UnknownFingerprint => "unknown_fingerprint",
            Reason::Content => "content",
            Reason::Clock => "clock",
            Reason::Conflict => "conflict",
        }
    }
}

/// One thing refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Whose it is; none where neither session nor topic says so, then only the operator sees it.
    pub tenant: Option<String>,
    /// The topic as it was published.
    pub topic: String,
    /// When ingest took it.
    pub received_at_us: i64,
    /// Why it was refused.
    pub reason: Reason,
    /// The same for people: which field, what was wrong with it.
    pub detail: String,
    /// The refused bytes; of a payload that is too large only the beginning.
    pub payload: Vec<u8>,
    /// Length of the refused bytes before anything was cut.
    pub payload_bytes: i64,
    /// Journal it came by, a UUID.
    pub source: String,
    /// Record in that journal.
    pub position: i64,
    /// Which reading of the record, from 0.
    pub index: i64,
}

/// The columns of the table.
pub fn columns() -> SchemaRef {
    static COLUMNS: LazyLock<SchemaRef> = LazyLock::new(|| {
        let (text, long) = (|| DataType::Utf8View, || DataType::Int64);
        Arc::new(ArrowSchema::new(vec![
            column("tenant", text(), true, "whose it is, where that is known", ""),
            column("topic", text(), false, "the MQTT topic it was published to", ""),
            column("received_at", Kind::Time.data_type(), false, "when ingest took it", "us"),
            column("reason", text(), false, "why it was refused", ""),
            column("detail", text(), false, "the same for people", ""),
            column("payload", DataType::Binary, false, "the refused bytes; the first 4 KiB if too large", ""),
            column("payload_bytes", long(), false, "length before anything was cut", "By"),
            column("source", text(), false, "the journal it came by", ""),
            column("position", long(), false, "its record in that journal", "1"),
            column("index", long(), false, "which reading of the record, from 0", "1"),
            column("date", DataType::Date32, false, "UTC date of `received_at`; the partition", "d"),
        ]))
    });
    COLUMNS.clone()
}

/// Dead letters as one batch of [`columns`], in the given order.
///
/// # Errors
/// Only where Arrow refuses what is built here, which would be a mistake of ours.
pub fn to_batch(letters: &[DeadLetter]) -> Result<RecordBatch, ArrowError> {
    let text = |of: &dyn Fn(&DeadLetter) -> Option<&str>| -> ArrayRef {
        let mut builder = StringViewBuilder::with_capacity(letters.len());
        letters.iter().for_each(|letter| builder.append_option(of(letter)));
        Arc::new(builder.finish())
    };
    let long = |of: &dyn Fn(&DeadLetter) -> i64| -> ArrayRef {
        let mut builder = Int64Builder::with_capacity(letters.len());
        letters.iter().for_each(|letter| builder.append_value(of(letter)));
        Arc::new(builder.finish())
    };
    let mut received_at = TimestampMicrosecondBuilder::new().with_data_type(Kind::Time.data_type());
    let mut payload = BinaryBuilder::new();
    let mut date = Date32Builder::new();
    for letter in letters {
        received_at.append_value(letter.received_at_us);
        payload.append_value(&letter.payload);
        date.append_value(crate::batch::date_of(letter.received_at_us));
    }
    RecordBatch::try_new(
        columns(),
        vec![
            text(&|letter| letter.tenant.as_deref()),
            text(&|letter| Some(&letter.topic)),
            Arc::new(received_at.finish()),
            text(&|letter| Some(letter.reason.as_str())),
            text(&|letter| Some(&letter.detail)),
            Arc::new(payload.finish()),
            long(&|letter| letter.payload_bytes),
            text(&|letter| Some(&letter.source)),
            long(&|letter| letter.position),
            long(&|letter| letter.index),
            Arc::new(date.finish()),
        ],
    )
}
