//! Frames: a look at each packet's first bytes, before the library gathers the rest of it.
//!
//! The library gathers every packet but PUBLISH whole before anybody can judge it, and makes room for all
//! that was announced: 256 MiB for seven bytes. So a packet that is too long is never shown to it.

use std::{
    any::{Any, TypeId},
    cell::Cell,
    io,
    task::Poll,
};

use ntex::io::{FilterBuf, FilterLayer};

use super::limits::{PLAIN_PACKET_BYTES_MAX, TOPIC_BYTES_MAX, UNREAD_BYTES_MAX};

/// The number of a connection, by which whoever has its end of the library's finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(pub u64);

/// What is known of the packet being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before its first byte.
    Begin,
    /// In its length.
    Length { first: u8, bytes: usize, shift: u32 },
    /// In the length of its topic, a PUBLISH; what follows, and the first byte if it has come.
    Topic { left: usize, high: Option<u8> },
    /// Behind what matters; how much is left.
    Rest { left: usize },
    /// In one that is refused: nothing more is shown to the library.
    Refused,
}

/// What becomes of bytes that were read.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    /// A packet is too long; where it begins in these bytes, if there.
    TooLong(Option<usize>),
}

/// The look at one connection's packets.
#[derive(Debug)]
pub(super) struct Frames {
    number: Number,
    at: Cell<At>,
    /// Whether a first packet has come to its end.
    introduced: Cell<bool>,
}

impl Frames {
    /// For a new connection.
    pub fn new(number: Number) -> Frames {
        Frames { number, at: Cell::new(At::Begin), introduced: Cell::new(false) }
    }

    fn look(&self, bytes: &[u8]) -> Verdict {
        let (mut at, mut begin, mut next) = (self.at.get(), None, 0);
        while next < bytes.len() && at != At::Refused {
            if at == At::Begin {
                begin = Some(next);
            }
            if let At::Rest { left } = at {
                let taken = left.min(bytes.len() - next);
                next += taken;
                at = rest(left - taken);
            } else {
                at = step(at, bytes[next]);
                next += 1;
            }
            if at == At::Begin {
                self.introduced.set(true);
            }
        }
        self.at.set(at);
        if at == At::Refused { Verdict::TooLong(begin) } else { Verdict::Pass }
    }
}

/// One byte further, within what matters.
fn step(at: At, byte: u8) -> At {
    match at {
        At::Begin => At::Length { first: byte, bytes: 0, shift: 0 },
        At::Length { first, bytes, shift } => {
            let bytes = bytes | usize::from(byte & 0x7f) << shift;
            match byte & 0x80 == 0 {
                true => judge(first, bytes),
                // A fifth byte of a length is malformed, which the library says itself.
                false if shift == 21 => At::Rest { left: usize::MAX },
                false => At::Length { first, bytes, shift: shift + 7 },
            }
        }
        At::Topic { left, high: None } => At::Topic { left: left - 1, high: Some(byte) },
        At::Topic { left, high: Some(high) } => {
            match usize::from(u16::from_be_bytes([high, byte])) > TOPIC_BYTES_MAX {
                true => At::Refused,
                false => rest(left - 1),
            }
        }
        At::Rest { left } => rest(left - 1),
        At::Refused => At::Refused,
    }
}

/// A packet whose kind and length are known.
fn judge(first: u8, bytes: usize) -> At {
    let is_publish = first >> 4 == 3;
    match bytes {
        2.. if is_publish => At::Topic { left: bytes, high: None },
        _ if bytes > PLAIN_PACKET_BYTES_MAX => At::Refused,
        _ => rest(bytes),
    }
}

fn rest(left: usize) -> At {
    if left == 0 { At::Begin } else { At::Rest { left } }
}

impl FilterLayer for Frames {
    fn query(&self, id: TypeId) -> Option<Box<dyn Any>> {
        (id == TypeId::of::<Number>()).then(|| Box::new(self.number) as Box<dyn Any>)
    }

    fn process_read_buf(&self, buf: &FilterBuf<'_>) -> io::Result<()> {
        buf.with_read_buffers(|read, shown| {
            let Some(read) = read.as_mut().filter(|read| !read.is_empty()) else { return Ok(()) };
            if self.at.get() == At::Refused {
                read.clear();
                return Ok(());
            }
            if shown.len() > UNREAD_BYTES_MAX {
                return Err(io::Error::other("a packet's beginning does not end"));
            }
            match self.look(read) {
                Verdict::Pass if shown.is_empty() => std::mem::swap(read, shown),
                Verdict::Pass => {
                    shown.extend_from_slice(read);
                    read.clear();
                }
                Verdict::TooLong(Some(begin)) if self.introduced.get() => {
                    shown.extend_from_slice(&read[..begin]);
                    shown.extend_from_slice(&impossible(read[begin]));
                    read.clear();
                }
                Verdict::TooLong(_) => return Err(io::Error::other("a packet is too long")),
            }
            Ok(())
        })
    }

    fn process_write_buf(&self, buf: &FilterBuf<'_>) -> io::Result<()> {
        buf.with_write_buffers(|ours, next| ours.move_to(next));
        Ok(())
    }

    fn shutdown(&self, _: &FilterBuf<'_>) -> io::Result<Poll<()>> {
        Ok(Poll::Ready(()))
    }
}

/// A beginning that the library itself refuses as too long: it says why where the protocol can, and closes.
fn impossible(first: u8) -> [u8; 5] {
    [first, 0xff, 0xff, 0xff, 0x7f]
}

#[cfg(test)]
mod tests;
