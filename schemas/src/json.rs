//! A reading as a JSON object (RFC 8259): for people who look at the wire, and for devices that speak nothing else.

use core::fmt::{self, Write};

use crate::{avro::Full, domains::Fields};

/// Writes one object, field by field, into a caller's buffer; absent fields are left out.
///
/// Once a field did not fit, [`Writer::finish`] answers [`Full`].
#[derive(Debug)]
pub struct Writer<'b> {
    buf: &'b mut [u8],
    len: usize,
    full: bool,
    /// Whether a field stands in the object already.
    begun: bool,
}

impl<'b> Writer<'b> {
    /// Begins an object.
    pub fn object(buf: &'b mut [u8]) -> Writer<'b> {
        Writer { buf, len: 0, full: false, begun: false }
    }

    /// Goes on, in a buffer of its own, with an object that holds a field already.
    pub fn rest_of_object(buf: &'b mut [u8]) -> Writer<'b> {
        Writer { buf, len: 0, full: false, begun: true }
    }

    /// Leaves the object open for [`Writer::rest_of_object`]; answers how many bytes were written.
    pub fn pause(self) -> Result<usize, Full> {
        if self.full { Err(Full) } else { Ok(self.len) }
    }

    /// Ends the object; answers how many bytes were written, or [`Full`] if not all fitted.
    pub fn finish(mut self) -> Result<usize, Full> {
        self.put(format_args!("{}", if self.begun { "}" } else { "{}" }));
        self.pause()
    }

    fn field(&mut self, name: &str, value: fmt::Arguments<'_>) {
        let before = if self.begun { ',' } else { '{' };
        self.begun = true;
        self.put(format_args!("{before}\"{name}\":{value}"));
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        self.full |= self.write_fmt(text).is_err();
    }
}

impl Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let place = self.buf.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

impl Fields for Writer<'_> {
    fn long(&mut self, name: &str, value: i64) {
        self.field(name, format_args!("{value}"));
    }

    fn double(&mut self, name: &str, value: f64) {
        self.field(name, format_args!("{value}"));
    }

    fn boolean(&mut self, name: &str, value: bool) {
        self.field(name, format_args!("{value}"));
    }

    fn optional_long(&mut self, name: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.long(name, value);
        }
    }

    fn optional_double(&mut self, name: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.double(name, value);
        }
    }

    fn optional_boolean(&mut self, name: &str, value: Option<bool>) {
        if let Some(value) = value {
            self.boolean(name, value);
        }
    }

    fn optional_string(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            // `escape_default` would write `\u{e9}`; readings hold versions and names, so quotes and
            // backslashes are all that JSON wants escaped here, control characters being dropped.
            self.field(name, format_args!("\"{}\"", Escaped(value)));
        }
    }
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().filter(|c| !c.is_control()).try_for_each(|c| {
            if matches!(c, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(c)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_holds_the_fields_that_are_there() {
        let mut buf = [0; 128];
        let mut writer = Writer::object(&mut buf);
        writer.boolean("up", true);
        writer.optional_long("clients", None);
        writer.optional_double("latency_ms", Some(0.5));
        writer.optional_string("firmware", Some("a\"b\\"));
        let len = writer.finish().expect("fits");
        assert_eq!(&buf[..len], br#"{"up":true,"latency_ms":0.5,"firmware":"a\"b\\"}"#);
    }

    #[test]
    fn short_buffer_is_full() {
        let mut buf = [0; 9];
        let mut writer = Writer::object(&mut buf);
        writer.boolean("up", true);
        assert_eq!(writer.finish(), Err(Full));
    }
}
