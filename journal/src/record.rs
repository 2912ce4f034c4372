//! One record: a payload as it was published, with what acceptance must know to judge it again later.
//!
//! ```text
//! received_at_us i64 | tenant length u8 | topic length u16 | cut u64 | tenant | topic | [sha256] | payload
//! ```
//! All numbers little-endian. Tenant length 0 means that the session was bound to no tenant. `cut` is 0
//! where the payload is kept whole; otherwise it is the length before the cut, and the hash follows. Where
//! all its bits are set the payload came once before: `note length u16 | note` follow instead of the hash.

/// Bytes before the texts.
const HEAD: usize = 8 + 1 + 2 + 8;

/// In place of a cut payload's length; no payload is that long.
const AGAIN: u64 = u64::MAX;

/// A payload as it was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The session's tenant; none where the session may speak for all.
    pub tenant: Option<&'a str>,
    /// The topic, as it was sent; at most 65,535 bytes, as MQTT has it.
    pub topic: &'a str,
    /// When it came, microseconds since 1970.
    pub received_at_us: i64,
    /// What it held.
    pub payload: Payload<'a>,
}

/// A payload, whole or cut, or one that comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// The beginning of one that was too large.
    Cut {
        /// What was kept; ends with nothing but payload bytes.
        kept: &'a [u8],
        /// How long it was; never zero, nor all bits set.
        bytes: u64,
        /// SHA-256 of all of it, so that its sender can find it again.
        sha256: [u8; 32],
    },
    /// One that was refused before and is to be judged again.
    Again {
        /// What whoever judges wants to know of the first time; at most 65,535 bytes.
        note: &'a str,
        /// All of it.
        bytes: &'a [u8],
    },
}

impl<'a> Record<'a> {
    /// Appends the record's bytes. A topic or tenant longer than the format holds is cut at its limit.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let tenant = shorten(self.tenant.unwrap_or_default(), u8::MAX.into());
        let topic = shorten(self.topic, u16::MAX.into());
        let (kept, cut, sha256, note) = match &self.payload {
            Payload::Whole(bytes) => (*bytes, 0, &[][..], None),
            Payload::Cut { kept, bytes, sha256 } => (*kept, *bytes, &sha256[..], None),
            Payload::Again { note, bytes } => (*bytes, AGAIN, &[][..], Some(shorten(note, u16::MAX.into()))),
        };
        out.extend_from_slice(&self.received_at_us.to_le_bytes());
        out.push(tenant.len() as u8);
        out.extend_from_slice(&(topic.len() as u16).to_le_bytes());
        out.extend_from_slice(&cut.to_le_bytes());
        out.extend_from_slice(tenant.as_bytes());
        out.extend_from_slice(topic.as_bytes());
        out.extend_from_slice(sha256);
        if let Some(note) = note {
            out.extend_from_slice(&(note.len() as u16).to_le_bytes());
            out.extend_from_slice(note.as_bytes());
        }
        out.extend_from_slice(kept);
    }

    /// Reads what a batch wrote; `None` where the bytes are something else.
    pub fn decode(bytes: &'a [u8]) -> Option<Record<'a>> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let received_at_us = i64::from_le_bytes(head[..8].try_into().ok()?);
        let topic_len = u16::from_le_bytes(head[9..11].try_into().ok()?).into();
        let cut = u64::from_le_bytes(head[11..].try_into().ok()?);
        let (tenant, rest) = rest.split_at_checked(head[8].into())?;
        let (topic, rest) = rest.split_at_checked(topic_len)?;
        let tenant = std::str::from_utf8(tenant).ok()?;
        let topic = std::str::from_utf8(topic).ok()?;
        let payload = match cut {
            0 => Payload::Whole(rest),
            AGAIN => {
                let (len, rest) = rest.split_first_chunk()?;
                let (note, bytes) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
                Payload::Again { note: std::str::from_utf8(note).ok()?, bytes }
            }
            bytes => {
                let (sha256, kept) = rest.split_first_chunk()?;
                Payload::Cut { kept, bytes, sha256: *sha256 }
            }
        };
        Some(Record { tenant: (!tenant.is_empty()).then_some(tenant), topic, received_at_us, payload })
    }
}

fn shorten(text: &str, len_max: usize) -> &str {
    if text.len() <= len_max { text } else { &text[..text.floor_char_boundary(len_max)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_that_comes_again_keeps_its_note() {
        for (note, bytes) in [("42 of another journal", &b"payload"[..]), ("", b""), ("note", b"")] {
            let payload = Payload::Again { note, bytes };
            let topic = "city/v1/lamia/fleet/bus-1";
            let record = Record { tenant: Some("lamia"), topic, received_at_us: 7, payload };
            let mut encoded = Vec::new();
            record.encode(&mut encoded);
            assert_eq!(Record::decode(&encoded), Some(record));
            // Cut within the note it is no record.
            assert!(note.is_empty() || Record::decode(&encoded[..HEAD + 5 + topic.len() + 3]).is_none());
        }
    }
}
