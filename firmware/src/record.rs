//! One reading as it is kept: which it is, when it was taken, and its fields; and the bytes of that on flash.
//!
//! ```text
//!   reading  head 1 | seq 4 | time_us 8           | (counter 8) | fields
//!   untimed  head 1 | seq 4 | boot 4 | ticks_us 8 | (counter 8) | fields
//!   anchor   head 1 | boot 4 | offset_us 8 | offset_us 8
//! ```
//! The head tells the kind, the channel, and whether there is a counter.
//! Integers are little-endian. The fields are encoded already, without `time` and `seq`, which are put in front
//! when the reading is published.

use crate::schedule::Channel;

/// Largest encoded fields of a reading: 14 of energy, of 9 bytes each in Avro, and in JSON of 20 characters of name,
/// 20 digits and four signs.
pub const FIELDS_BYTES_MAX: usize = if cfg!(feature = "json") { 768 } else { 192 };

/// Most bytes that a record has beside the reading's fields.
pub const HEAD_BYTES_MAX: usize = 25;

const READING: u8 = 0;
const UNTIMED: u8 = 2;
const ANCHOR: u8 = 4;
const COUNTED: u8 = 8;

/// When a reading was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// Microseconds since 1970 UTC: fixed, and never changed again.
    Time(i64),
    /// Microseconds since a start of the device, as it did not know the time: held back until it does.
    Ticks {
        /// Which start.
        boot: u32,
        /// Since then.
        us: i64,
    },
}

/// By channel, what has to be added to ticks to get microseconds since 1970 UTC.
pub type Offsets = [i64; 2];

/// What tells a reading from all others of its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its series.
    pub channel: Channel,
    /// Its number in the series.
    pub seq: u32,
}

/// One entry of the log on flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// A reading.
    Reading {
        /// Which one.
        key: Key,
        /// When it was taken.
        stamp: Stamp,
        /// What its sensor has counted so far, if it counts.
        counter: Option<u64>,
        /// What was measured, encoded.
        fields: &'a [u8],
    },
    /// All readings of this start that have ticks were taken at `ticks + offset_us` of their channel.
    Anchor {
        /// Which start.
        boot: u32,
        /// One for each channel.
        offset_us: Offsets,
    },
}

impl<'a> Record<'a> {
    /// Writes the record; answers its length. `buf` holds [`HEAD_BYTES_MAX`] more than the fields.
    pub fn encode(&self, buf: &mut [u8]) -> usize {
        let mut out = Out { buf, len: 0 };
        match *self {
            Record::Reading { key, stamp, counter, fields } => {
                let kind = if matches!(stamp, Stamp::Time(_)) { READING } else { UNTIMED };
                let counted = if counter.is_some() { COUNTED } else { 0 };
                out.put(&[kind | counted | key.channel as u8]);
                out.put(&key.seq.to_le_bytes());
                match stamp {
                    Stamp::Time(us) => out.put(&us.to_le_bytes()),
                    Stamp::Ticks { boot, us } => {
                        out.put(&boot.to_le_bytes());
                        out.put(&us.to_le_bytes());
                    }
                }
                if let Some(counter) = counter {
                    out.put(&counter.to_le_bytes());
                }
                out.put(fields);
            }
            Record::Anchor { boot, offset_us } => {
                out.put(&[ANCHOR]);
                out.put(&boot.to_le_bytes());
                offset_us.iter().for_each(|us| out.put(&us.to_le_bytes()));
            }
        }
        out.len
    }

    /// Reads a record; `None` where the bytes are none of ours.
    pub fn decode(bytes: &'a [u8]) -> Option<Record<'a>> {
        let (head, mut rest) = bytes.split_first()?;
        match head & !(1 | COUNTED) {
            ANCHOR => {
                let boot = u32::from_le_bytes(take(&mut rest)?);
                let offset_us = [i64::from_le_bytes(take(&mut rest)?), i64::from_le_bytes(take(&mut rest)?)];
                Some(Record::Anchor { boot, offset_us })
            }
            kind @ (READING | UNTIMED) => {
                let key = Key {
                    channel: Channel::ALL[usize::from(head & 1)],
                    seq: u32::from_le_bytes(take(&mut rest)?),
                };
                let stamp = if kind == READING {
                    Stamp::Time(i64::from_le_bytes(take(&mut rest)?))
                } else {
                    Stamp::Ticks {
                        boot: u32::from_le_bytes(take(&mut rest)?),
                        us: i64::from_le_bytes(take(&mut rest)?),
                    }
                };
                let counter =
                    if head & COUNTED == 0 { None } else { Some(u64::from_le_bytes(take(&mut rest)?)) };
                Some(Record::Reading { key, stamp, counter, fields: rest })
            }
            _ => None,
        }
    }
}

struct Out<'b> {
    buf: &'b mut [u8],
    len: usize,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.buf[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

/// The first `N` bytes of `rest`, which moves on behind them.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamps() -> impl Strategy<Value = Stamp> {
        prop_oneof![
            any::<i64>().prop_map(Stamp::Time),
            (any::<u32>(), any::<i64>()).prop_map(|(boot, us)| Stamp::Ticks { boot, us }),
        ]
    }

    proptest! {
        #[test]
        fn record_is_read_as_it_was_written(
            health in any::<bool>(), seq in any::<u32>(), stamp in stamps(),
            fields in prop::collection::vec(any::<u8>(), 0..40), boot in any::<u32>(), offset in any::<i64>(),
            counter in any::<Option<u64>>(),
        ) {
            let channel = Channel::ALL[usize::from(health)];
            let reading = Record::Reading { key: Key { channel, seq }, stamp, counter, fields: &fields };
            for record in [reading, Record::Anchor { boot, offset_us: [offset, -1] }] {
                let mut buf = [0; 40 + HEAD_BYTES_MAX];
                let len = record.encode(&mut buf);
                prop_assert_eq!(Record::decode(&buf[..len]), Some(record));
            }
        }

        #[test]
        fn any_bytes_are_a_record_or_none(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            let _ = Record::decode(&bytes);
        }
    }
}
