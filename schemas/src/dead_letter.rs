//! Dead letters: payloads and readings that could not be accepted, kept with the reason.
//!
//! A dead letter is identified by (source, position, index): the journal it came by, its record there,
//! and which of the record's readings it is. Its bytes are kept, so that a mended schema can replay it.
//! A replay that changes something adds a row with the same identity, the reason [`Reason::Replayed`] and
//! no bytes: the letter is settled, and what is still refused of it is a letter of its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryBuilder, Date32Builder, Int64Builder, RecordBatch, StringViewBuilder,
        TimestampMicrosecondBuilder,
    },
    datatypes::{DataType, Int64Type, Schema as ArrowSchema, SchemaRef, TimestampMicrosecondType},
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
    /// No refusal: the letter of this identity was replayed, and is settled.
    Replayed,
}

impl Reason {
    /// All reasons, in the order in which a payload can meet them, the settlement last.
    pub const ALL: [Reason; 8] = [
        Reason::Topic,
        Reason::TooLarge,
        Reason::UnknownDomain,
        Reason::UnknownFingerprint,
        Reason::Content,
        Reason::Clock,
        Reason::Conflict,
        Reason::Replayed,
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
            Reason::Replayed => "replayed",
        }
    }

    /// The reason that is written so.
    pub fn parse(text: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.as_str() == text)
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

/// What became of dead letters that were put through acceptance again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Letters that were decided.
    pub letters: u64,
    /// Letters of which nothing changed: refused for the same reason, as a whole.
    pub unchanged: u64,
    /// Readings of them that became rows.
    pub accepted: u64,
    /// Readings that were there already.
    pub repeated: u64,
    /// Readings that were refused again, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
}

impl Replayed {
    /// Adds what became of others.
    pub fn add(&mut self, other: &Replayed) {
        self.letters += other.letters;
        self.unchanged += other.unchanged;
        self.accepted += other.accepted;
        self.repeated += other.repeated;
        for (reason, readings) in &other.rejected {
            *self.rejected.entry(reason).or_default() += readings;
        }
    }
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

/// Dead letters out of rows of [`columns`].
///
/// # Errors
/// Where the rows have other columns, or a reason that this program does not know.
pub fn from_batch(rows: &RecordBatch) -> Result<Vec<DeadLetter>, ArrowError> {
    let column = |name: &str| {
        let missing = || ArrowError::SchemaError(format!("a dead letter has no column `{name}` of its type"));
        rows.column_by_name(name).ok_or_else(missing)
    };
    let wrong = |name: &str| ArrowError::SchemaError(format!("`{name}` of a dead letter is of another type"));
    let text = |name: &str| column(name)?.as_string_view_opt().ok_or_else(|| wrong(name));
    let long = |name: &str| column(name)?.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong(name));
    let (tenants, topics, reasons) = (text("tenant")?, text("topic")?, text("reason")?);
    let (details, sources) = (text("detail")?, text("source")?);
    let received_at = column("received_at")?.as_primitive_opt::<TimestampMicrosecondType>();
    let received_at = received_at.ok_or_else(|| wrong("received_at"))?;
    let payloads = column("payload")?.as_binary_opt::<i32>().ok_or_else(|| wrong("payload"))?;
    let (lengths, positions, indexes) = (long("payload_bytes")?, long("position")?, long("index")?);
    let letter = |row: usize| {
        let reason = reasons.value(row);
        let unknown = || ArrowError::SchemaError(format!("there is no reason `{reason}` for a dead letter"));
        Ok(DeadLetter {
            tenant: tenants.is_valid(row).then(|| tenants.value(row).to_owned()),
            topic: topics.value(row).to_owned(),
            received_at_us: received_at.value(row),
            reason: Reason::parse(reason).ok_or_else(unknown)?,
            detail: details.value(row).to_owned(),
            payload: payloads.value(row).to_owned(),
            payload_bytes: lengths.value(row),
            source: sources.value(row).to_owned(),
            position: positions.value(row),
            index: indexes.value(row),
        })
    };
    (0..rows.num_rows()).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_become_rows_and_letters_again() {
        let letter = |tenant: Option<&str>, reason, index| DeadLetter {
            tenant: tenant.map(str::to_owned),
            topic: "city/v1/lamia/tides/t1".into(),
            received_at_us: 1_790_000_000_000_000 + index,
            reason,
            detail: "why".into(),
            payload: vec![0xc3, index as u8],
            payload_bytes: 2,
            source: "source-a".into(),
            position: 7,
            index,
        };
        let reasons = Reason::ALL.into_iter().zip(0..);
        let letters: Vec<_> = reasons.map(|(reason, index)| letter(Some("lamia"), reason, index)).collect();
        let letters = [letters, vec![letter(None, Reason::Topic, 99)]].concat();
        assert_eq!(from_batch(&to_batch(&letters).unwrap()).unwrap(), letters);
        assert_eq!(Reason::parse("unknown-domain"), None);
    }
}
