//! A payload taken apart, reading by reading, each checked on its own.
//!
//! In: a topic's domain and the bytes published there. Out: readings that can be decoded without doubt,
//! and rejections with their reason and their bytes. No I/O, no clock.

mod avro;
mod json;

use crate::{
    dead_letter::Reason,
    domain::Domain,
    limits::{CLOCK_AHEAD_US_MAX, TIME_US_MIN},
};

pub use json::Cell;

/// A reading that is whole and fits its schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading<'p> {
    /// Which of the payload's readings, from 0.
    pub index: u32,
    /// When it was true, microseconds since 1970.
    pub time_us: i64,
    /// Whether the device said so; if not, `time_us` is the arrival plus the index.
    pub timed: bool,
    /// The bytes as they were published: this reading alone.
    pub bytes: &'p [u8],
    /// Its fields.
    pub content: Content,
}

/// The fields of a reading, not yet a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// The reading's bytes are an Avro frame of this version of the domain's schema.
    Avro {
        /// Index into [`Domain::versions`].
        version: usize,
    },
    /// Values in the order of the newest version's fields, and what no field is for, as JSON text.
    Json {
        /// One for each field of the schema, `time` and `seq` among them.
        cells: Vec<Cell>,
        /// An object of the unknown fields.
        extra: Option<String>,
    },
}

/// A reading, or a run of bytes, that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected<'p> {
    /// Which of the payload's readings, from 0.
    pub index: u32,
    /// Why.
    pub reason: Reason,
    /// The same for people.
    pub detail: String,
    /// The bytes that are refused.
    pub bytes: &'p [u8],
}

impl Rejected<'_> {
    /// Whether its time lies ahead of the arrival: one of the two clocks is wrong, and many such readings
    /// speak against ours. A device whose clock was never set says nothing about ours.
    pub fn is_ahead(&self) -> bool {
        self.reason == Reason::Clock && self.detail.contains(" ahead of ")
    }
}

/// When and as what a payload is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// When it arrived; a reading without a time of its own takes it from here.
    pub received_at_us: i64,
    /// The moment that its times must not lie ahead of: the arrival, or that of a replay.
    pub judged_at_us: i64,
    /// Which of the readings it once arrived with is its first.
    pub first_index: u32,
}

/// Takes a payload apart. Every byte of it ends in exactly one reading or rejection.
pub fn readings<'p>(
    domain: &Domain,
    payload: &'p [u8],
    received_at_us: i64,
) -> Vec<Result<Reading<'p>, Rejected<'p>>> {
    readings_again(domain, payload, Judged { received_at_us, judged_at_us: received_at_us, first_index: 0 })
}

/// As [`readings`], of bytes that were refused once and are judged at another moment.
pub fn readings_again<'p>(
    domain: &Domain,
    payload: &'p [u8],
    judged: Judged,
) -> Vec<Result<Reading<'p>, Rejected<'p>>> {
    let Judged { received_at_us, judged_at_us, first_index } = judged;
    let mut readings = match payload.first() {
        Some(&first) if first == crate::avro::MARKER[0] => avro::readings(domain, payload),
        // A reading without a time gets the same one as when it came with all others.
        _ => json::readings(domain, payload, received_at_us.saturating_add(first_index.into())),
    };
    for reading in &mut readings {
        if let Ok(found) = reading
            && let Some(detail) = wrong_clock(found.time_us, judged_at_us)
        {
            *reading =
                Err(Rejected { index: found.index, reason: Reason::Clock, detail, bytes: found.bytes });
        }
        match reading {
            Ok(Reading { index, .. }) | Err(Rejected { index, .. }) => {
                *index = index.saturating_add(first_index);
            }
        }
    }
    readings
}

fn wrong_clock(time_us: i64, judged_at_us: i64) -> Option<String> {
    if time_us < TIME_US_MIN {
        Some("time lies before the year 2000: set the device's clock".into())
    } else if time_us > judged_at_us.saturating_add(CLOCK_AHEAD_US_MAX) {
        let ahead_s = time_us.saturating_sub(judged_at_us) / 1_000_000;
        Some(format!("time lies {ahead_s} s ahead of the arrival: set the device's clock"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
