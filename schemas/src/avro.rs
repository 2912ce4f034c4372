//! The Avro binary encoding, as far as readings need it, and its single-object frame.
//!
//! Source: Apache Avro 1.12 specification, "Binary Encoding" and "Single-object encoding":
//! integers are zig-zag variable-length, floats little-endian IEEE 754, text a length and UTF-8,
//! and a frame is `C3 01`, the schema's 8-byte CRC-64-AVRO fingerprint (little-endian), the body.

use crate::domains::Fields;

/// The two bytes that every single-object frame begins with.
pub const MARKER: [u8; 2] = [0xC3, 0x01];

/// Bytes of a frame before its body.
pub const HEADER_LEN: usize = 10;

/// The buffer given to an encoder is too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Writes Avro values one after another into a caller's buffer.
///
/// Once a value did not fit, all later ones are ignored and [`Writer::finish`] answers [`Full`].
#[derive(Debug)]
pub struct Writer<'b> {
    buf: &'b mut [u8],
    len: usize,
    full: bool,
}

impl<'b> Writer<'b> {
    /// Begins a single-object frame of the schema with this fingerprint.
    pub fn frame(buf: &'b mut [u8], fingerprint: u64) -> Writer<'b> {
        let mut writer = Writer::body(buf);
        writer.put(&MARKER);
        writer.put(&fingerprint.to_le_bytes());
        writer
    }

    /// Goes on in a buffer of its own.
    pub fn body(buf: &'b mut [u8]) -> Writer<'b> {
        Writer { buf, len: 0, full: false }
    }

    /// How many bytes were written, or [`Full`] if not all fitted.
    pub fn finish(self) -> Result<usize, Full> {
        if self.full { Err(Full) } else { Ok(self.len) }
    }

    /// Which branch of a `["null", T]` union follows.
    fn branch(&mut self, some: bool) {
        self.varint(some as i64);
    }

    /// A zig-zag variable-length integer: small magnitudes stay short, 0, -1, 1, -2 become 0, 1, 2, 3.
    fn varint(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            self.put(&[rest as u8 | 0x80]);
            rest >>= 7;
        }
        self.put(&[rest as u8]);
    }

    fn put(&mut self, bytes: &[u8]) {
        match self.buf.get_mut(self.len..self.len + bytes.len()) {
            Some(place) if !self.full => {
                place.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            _ => self.full = true,
        }
    }
}

impl Fields for Writer<'_> {
    fn long(&mut self, _name: &str, value: i64) {
        self.varint(value);
    }

    fn double(&mut self, _name: &str, value: f64) {
        self.put(&value.to_le_bytes());
    }

    fn boolean(&mut self, _name: &str, value: bool) {
        self.put(&[value as u8]);
    }

    fn optional_long(&mut self, name: &str, value: Option<i64>) {
        self.branch(value.is_some());
        if let Some(value) = value {
            self.long(name, value);
        }
    }

    fn optional_double(&mut self, name: &str, value: Option<f64>) {
        self.branch(value.is_some());
        if let Some(value) = value {
            self.double(name, value);
        }
    }

    fn optional_boolean(&mut self, name: &str, value: Option<bool>) {
        self.branch(value.is_some());
        if let Some(value) = value {
            self.boolean(name, value);
        }
    }

    fn optional_string(&mut self, _name: &str, value: Option<&str>) {
        self.branch(value.is_some());
        if let Some(value) = value {
            self.varint(value.len() as i64);
            self.put(value.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examples of the specification, section "Binary Encoding".
    #[test]
    fn longs_are_zig_zag_and_variable_length() {
        for (value, bytes) in [
            (0i64, &[0x00u8][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ] {
            let mut buf = [0; 32];
            let mut writer = Writer::frame(&mut buf, 0);
            writer.long("", value);
            let len = writer.finish().expect("fits");
            assert_eq!(&buf[HEADER_LEN..len], bytes, "{value}");
        }
    }

    #[test]
    fn short_buffer_is_full_and_never_overrun() {
        for room in 0..HEADER_LEN + 9 {
            let mut buf = std::vec![0; room];
            let mut writer = Writer::frame(&mut buf, 1);
            writer.optional_double("", Some(1.0));
            assert_eq!(writer.finish(), Err(Full), "{room}");
        }
    }
}
