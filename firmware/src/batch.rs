//! Several readings in one payload: Avro frames back to back, or one JSON object or an array of them.

/// How readings are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Avro single-object encoding.
    Avro,
    /// JSON objects.
    Json,
}

/// A payload in the making, bounded by its buffer.
#[derive(Debug)]
pub struct Batch<'b> {
    buf: &'b mut [u8],
    format: Format,
    len: usize,
    count: usize,
    count_max: usize,
}

impl<'b> Batch<'b> {
    /// An empty payload for up to `count_max` readings.
    pub fn new(format: Format, count_max: usize, buf: &'b mut [u8]) -> Batch<'b> {
        Batch { buf, format, len: 0, count: 0, count_max }
    }

    /// Adds one reading, given in two parts as it lies in a ring; `false` where it does not fit.
    pub fn push(&mut self, head: &[u8], tail: &[u8]) -> bool {
        // JSON: a bracket or comma before each object, and the bracket that ends the array.
        let (before, after) = if self.format == Format::Json { (1, 1) } else { (0, 0) };
        let end = self.len + before + head.len() + tail.len();
        if end + after > self.buf.len() || self.count == self.count_max {
            return false;
        }
        if before == 1 {
            self.buf[self.len] = if self.count == 0 { b'[' } else { b',' };
        }
        let start = self.len + before;
        self.buf[start..start + head.len()].copy_from_slice(head);
        self.buf[start + head.len()..end].copy_from_slice(tail);
        self.len = end;
        self.count += 1;
        true
    }

    /// Ends the payload; answers where it lies in the buffer.
    pub fn finish(self) -> core::ops::Range<usize> {
        match (self.format, self.count) {
            (Format::Avro, _) | (Format::Json, 0) => 0..self.len,
            // A single object stands without the brackets of an array.
            (Format::Json, 1) => 1..self.len,
            (Format::Json, _) => {
                self.buf[self.len] = b']';
                0..self.len + 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(format: Format, room: usize, readings: &[&str]) -> (usize, std::string::String) {
        let mut buf = std::vec![0; room];
        let mut batch = Batch::new(format, 3, &mut buf);
        let count =
            readings.iter().take_while(|r| batch.push(&r.as_bytes()[..1], &r.as_bytes()[1..])).count();
        let place = batch.finish();
        (count, std::str::from_utf8(&buf[place]).expect("text").into())
    }

    #[test]
    fn json_is_an_object_alone_and_an_array_together() {
        assert_eq!(payload(Format::Json, 20, &["{1}"]), (1, "{1}".into()));
        assert_eq!(payload(Format::Json, 20, &["{1}", "{2}"]), (2, "[{1},{2}]".into()));
    }

    #[test]
    fn avro_frames_stand_back_to_back() {
        assert_eq!(payload(Format::Avro, 6, &["abc", "def", "g"]), (2, "abcdef".into()));
        assert_eq!(payload(Format::Avro, 6, &["a", "b", "c", "d"]), (3, "abc".into()));
    }

    #[test]
    fn batch_never_passes_its_buffer() {
        for room in 0..12 {
            let (count, text) = payload(Format::Json, room, &["{1}", "{2}", "{3}"]);
            assert!(text.len() <= room);
            assert_eq!(count, [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2][room], "{room}");
        }
    }
}
