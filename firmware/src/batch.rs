//! Several readings in one payload: Avro frames back to back, or one JSON object or an array of them.

use zeugma_schemas::{
    avro::Full,
    domains::{Measurement, avro_head},
};

/// Largest payload: some ten readings. Four of them a round trip empty an outbox of 16 KiB in four.
pub const PAYLOAD_BYTES_MAX: usize = 1024;

/// How readings are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Avro single-object encoding.
    Avro,
    /// JSON objects.
    #[cfg(feature = "json")]
    Json,
}

impl Format {
    /// Whether readings stand in an array, with a bracket or comma before each and a bracket behind all.
    fn has_brackets(self) -> bool {
        self != Format::Avro
    }

    /// Writes what stands before a reading's fields.
    fn head(self, fingerprint: u64, time_us: i64, seq: i64, buf: &mut [u8]) -> Result<usize, Full> {
        match self {
            Format::Avro => avro_head(fingerprint, time_us, seq, buf),
            #[cfg(feature = "json")]
            Format::Json => zeugma_schemas::domains::json_head(time_us, seq, buf),
        }
    }

    /// Writes a reading's fields.
    pub(crate) fn fields(self, reading: &impl Measurement, buf: &mut [u8]) -> Result<usize, Full> {
        match self {
            Format::Avro => reading.encode_avro_fields(buf),
            #[cfg(feature = "json")]
            Format::Json => reading.encode_json_fields(buf),
        }
    }
}

/// A payload in the making, bounded by its buffer.
#[derive(Debug)]
pub struct Batch<'b> {
    buf: &'b mut [u8],
    format: Format,
    fingerprint: u64,
    len: usize,
    count: usize,
    count_max: usize,
}

impl<'b> Batch<'b> {
    /// An empty payload for up to `count_max` readings of the schema with this fingerprint.
    pub fn new(format: Format, fingerprint: u64, count_max: usize, buf: &'b mut [u8]) -> Batch<'b> {
        Batch { buf, format, fingerprint, len: 0, count: 0, count_max }
    }

    /// Adds one reading, its fields given in two parts as they lie in a ring; `false` where it does not fit.
    pub fn push(&mut self, time_us: i64, seq: u32, fields: [&[u8]; 2]) -> bool {
        if self.count == self.count_max {
            return false;
        }
        let added = self.add(time_us, seq.into(), fields);
        if let Some(end) = added {
            self.len = end;
            self.count += 1;
        }
        added.is_some()
    }

    /// Writes a reading behind the others; answers where it ends.
    fn add(&mut self, time_us: i64, seq: i64, fields: [&[u8]; 2]) -> Option<usize> {
        let bracket = usize::from(self.format.has_brackets());
        let room_end = self.buf.len().checked_sub(bracket)?;
        let room = self.buf.get_mut(self.len + bracket..room_end)?;
        let mut len = self.format.head(self.fingerprint, time_us, seq, room).ok()?;
        for part in fields {
            room.get_mut(len..len + part.len())?.copy_from_slice(part);
            len += part.len();
        }
        if bracket == 1 {
            self.buf[self.len] = if self.count == 0 { b'[' } else { b',' };
        }
        Some(self.len + bracket + len)
    }

    /// Ends the payload; answers where it lies in the buffer.
    pub fn finish(self) -> core::ops::Range<usize> {
        match self.count {
            // A single object stands without the brackets of an array.
            1 if self.format.has_brackets() => 1..self.len,
            2.. if self.format.has_brackets() => {
                self.buf[self.len] = b']';
                0..self.len + 1
            }
            _ => 0..self.len,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Up to three readings of one second, in a buffer of `room` bytes.
    fn payload(format: Format, room: usize, fields: &[&str]) -> (usize, std::vec::Vec<u8>) {
        let mut buf = std::vec![0; room];
        let mut batch = Batch::new(format, 7, 3, &mut buf);
        let count =
            fields.iter().take_while(|text| batch.push(1, 2, text.as_bytes().split_at(1).into())).count();
        let place = batch.finish();
        (count, buf[place].into())
    }

    #[test]
    fn json_is_an_object_alone_and_an_array_together() {
        let one = r#"{"time":1,"seq":2,"up":true}"#;
        assert_eq!(payload(Format::Json, 99, &[",\"up\":true}"]), (1, one.into()));
        let both = std::format!("[{one},{one}]");
        assert_eq!(payload(Format::Json, 99, &[",\"up\":true}", ",\"up\":true}"]), (2, both.into()));
    }

    #[test]
    fn avro_frames_stand_back_to_back() {
        let frame =
            |fields: &str| [&b"\xc3\x01\x07\0\0\0\0\0\0\0\x02\x02\x04"[..], fields.as_bytes()].concat();
        let both = [frame("abc"), frame("def")].concat();
        assert_eq!(payload(Format::Avro, 32, &["abc", "def", "g"]), (2, both));
        assert_eq!(payload(Format::Avro, 99, &["a", "b", "c", "d"]).0, 3);
    }

    #[test]
    fn batch_never_passes_its_buffer() {
        // 17 bytes of head and 1 of fields, a bracket or comma before, and one bracket at the end.
        for room in 0..99 {
            let (count, payload) = payload(Format::Json, room, &["}", "}", "}"]);
            assert!(payload.len() <= room);
            assert_eq!(count, (room.saturating_sub(1) / 19).min(3), "{room}");
        }
    }
}
