//! Avro single-object frames, back to back: a cheap walk that proves each frame whole before it is decoded.

use super::{Content, Reading, Rejected};
use crate::{
    avro::{HEADER_LEN, MARKER},
    dead_letter::Reason,
    domain::Domain,
    schema::{Kind, Schema},
};

/// Why a walk ended.
enum Bad {
    /// The reading's end is known, its content is wrong: the next one can still be read.
    Content(String),
    /// Nobody knows where the next reading begins.
    Lost(Reason, String),
}

/// Walks over the payload. From the first reading whose end cannot be found, the rest is one rejection.
pub(super) fn readings<'p>(domain: &Domain, payload: &'p [u8]) -> Vec<Result<Reading<'p>, Rejected<'p>>> {
    let mut readings = Vec::with_capacity(1);
    let mut rest = payload;
    while !rest.is_empty() {
        let index = readings.len() as u32;
        let mut walk = Walk { bytes: rest, at: 0, bad: None };
        let found = frame(domain, &mut walk);
        let bytes = &rest[..walk.at];
        readings.push(match found {
            Ok((version, time_us)) => {
                Ok(Reading { index, time_us, timed: true, bytes, content: Content::Avro { version } })
            }
            Err(Bad::Content(detail)) => Err(Rejected { index, reason: Reason::Content, detail, bytes }),
            Err(Bad::Lost(reason, detail)) => {
                readings.push(Err(Rejected { index, reason, detail, bytes: rest }));
                return readings;
            }
        });
        rest = &rest[walk.at..];
    }
    readings
}

/// One frame: the version of its schema, and its time.
fn frame(domain: &Domain, walk: &mut Walk<'_>) -> Result<(usize, i64), Bad> {
    let marker = walk.take(MARKER.len())?;
    if marker != MARKER {
        return Err(lost("no Avro single-object frame begins here"));
    }
    let fingerprint = walk.take(HEADER_LEN - MARKER.len())?;
    let fingerprint = u64::from_le_bytes(fingerprint.try_into().expect("eight bytes were taken"));
    let Some(version) = domain.version(fingerprint) else {
        let detail = format!(
            "no schema of domain `{}` has the fingerprint {fingerprint:016x}: give its .avsc file to --schemas",
            domain.name()
        );
        return Err(Bad::Lost(Reason::UnknownFingerprint, detail));
    };
    let time_us = body(&domain.versions()[version], walk)?;
    match walk.bad.take() {
        None => Ok((version, time_us)),
        Some(detail) => Err(Bad::Content(detail)),
    }
}

fn body(schema: &Schema, walk: &mut Walk<'_>) -> Result<i64, Bad> {
    let mut time_us = 0;
    for field in &schema.fields {
        if !field.required {
            match walk.varint()? {
                0 => continue,
                1 => {}
                branch => return Err(lost(&format!("field `{}` has no branch {branch}", field.name))),
            }
        }
        let value = walk.value(field.kind, &field.name)?;
        if field.name == "time" {
            time_us = value;
        }
    }
    Ok(time_us)
}

fn lost(detail: &str) -> Bad {
    Bad::Lost(Reason::Content, detail.to_owned())
}

/// A place in the bytes, and the first thing wrong that did not cost us the place.
struct Walk<'p> {
    bytes: &'p [u8],
    at: usize,
    bad: Option<String>,
}

impl<'p> Walk<'p> {
    fn take(&mut self, len: usize) -> Result<&'p [u8], Bad> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| lost("the reading is cut off"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// A zig-zag variable-length integer of at most ten bytes.
    fn varint(&mut self) -> Result<i64, Bad> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(lost("an integer does not end within 64 bits"))
    }

    /// Passes over one value; answers it where it is an integer.
    fn value(&mut self, kind: Kind, name: &str) -> Result<i64, Bad> {
        match kind {
            Kind::Boolean => {
                if self.take(1)?[0] > 1 {
                    self.spoil(format!("field `{name}` is no boolean"));
                }
            }
            Kind::Int => {
                if i32::try_from(self.varint()?).is_err() {
                    self.spoil(format!("field `{name}` is larger than an int"));
                }
            }
            Kind::Long | Kind::Time => return self.varint(),
            Kind::Float => {
                let bytes = self.take(4)?.try_into().expect("four bytes were taken");
                self.finite(f32::from_le_bytes(bytes).is_finite(), name);
            }
            Kind::Double => {
                let bytes = self.take(8)?.try_into().expect("eight bytes were taken");
                self.finite(f64::from_le_bytes(bytes).is_finite(), name);
            }
            Kind::Text => {
                let len = usize::try_from(self.varint()?).map_err(|_| lost("a text has no such length"))?;
                if std::str::from_utf8(self.take(len)?).is_err() {
                    self.spoil(format!("field `{name}` is no UTF-8"));
                }
            }
        }
        Ok(0)
    }

    /// NaN and infinities would poison every sum they meet.
    fn finite(&mut self, finite: bool, name: &str) {
        if !finite {
            self.spoil(format!("field `{name}` is no finite number"));
        }
    }

    fn spoil(&mut self, detail: String) {
        self.bad.get_or_insert(detail);
    }
}
