//! A stream whose reads and writes may be given up at any moment, for a TLS client whose own may not.
//!
//! The device listens until something else is due, and gives up what it was waiting for. A TLS client that is given
//! up between the two parts of a record has forgotten the first; and one that is given up in the middle of a write
//! would seal its next record with a nonce it has used. So this stream
//! - gives the first byte of a record only once all of it has come, so that its reader never waits within one;
//! - is broken for good once a write on it was given up or failed;
//! - ends at a second handshake record in the clear. The first is the broker's ServerHello, all others are sealed: this
//!   one is of somebody who stands between, and the client would take it for the broker's.

use embedded_io_async::{Error, ErrorKind, ErrorType, Read, Write};

/// Type, version and length (RFC 8446, section 5.1).
const HEAD_BYTES: usize = 5;

/// The content type of a handshake record in the clear.
const HANDSHAKE: u8 = 22;

/// `io`, record by record.
pub struct WholeRecords<'b, I> {
    io: I,
    /// What came, from the beginning of a record on.
    bytes: &'b mut [u8],
    len: usize,
    /// Of the first record, once all of it is there.
    end: Option<usize>,
    /// How much of it was given.
    given: usize,
    is_torn: bool,
    /// Whether the ServerHello came.
    has_hello: bool,
}

impl<'b, I> WholeRecords<'b, I> {
    /// A stream that has not begun. `bytes` has room for the longest record.
    pub(crate) fn new(io: I, bytes: &'b mut [u8]) -> Self {
        WholeRecords { io, bytes, len: 0, end: None, given: 0, is_torn: false, has_hello: false }
    }

    /// Looks whether all of the first record is there, if that is not known yet.
    fn look(&mut self) -> Result<(), ErrorKind> {
        if self.end.is_some() {
            return Ok(());
        }
        let Some([kind, _, _, high, low]) = self.bytes[..self.len].first_chunk::<HEAD_BYTES>() else {
            return Ok(());
        };
        let end = HEAD_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
        if end > self.len {
            return Ok(());
        }
        if *kind == HANDSHAKE && core::mem::replace(&mut self.has_hello, true) {
            self.is_torn = true;
            return Err(ErrorKind::InvalidData);
        }
        self.end = Some(end);
        Ok(())
    }

    fn whole(&self) -> Result<(), ErrorKind> {
        if self.is_torn { Err(ErrorKind::ConnectionReset) } else { Ok(()) }
    }
}

impl<I> ErrorType for WholeRecords<'_, I> {
    type Error = ErrorKind;
}

impl<I: Read> Read for WholeRecords<'_, I> {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        self.whole()?;
        let end = loop {
            self.look()?;
            if let Some(end) = self.end {
                break end;
            }
            if self.len == self.bytes.len() {
                return Err(ErrorKind::OutOfMemory);
            }
            let count = self.io.read(&mut self.bytes[self.len..]).await.map_err(|error| error.kind())?;
            if count == 0 {
                return Ok(0);
            }
            self.len += count;
        };
        let count = bytes.len().min(end - self.given);
        bytes[..count].copy_from_slice(&self.bytes[self.given..][..count]);
        self.given += count;
        if self.given == end {
            self.bytes.copy_within(end..self.len, 0);
            self.len -= end;
            (self.given, self.end) = (0, None);
        }
        Ok(count)
    }
}

impl<I: Write> Write for WholeRecords<'_, I> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.whole()?;
        // Whoever gives up waiting leaves it so.
        self.is_torn = true;
        let written = self.io.write(bytes).await;
        self.is_torn = written.is_err();
        written.map_err(|error| error.kind())
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        self.whole()?;
        self.io.flush().await.map_err(|error| error.kind())
    }
}

#[cfg(test)]
mod tests {
    use core::{
        future::{Future, poll_fn},
        pin::pin,
        task::{Context, Poll, Waker},
    };
    use std::{collections::VecDeque, vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    /// Gives what it has piece by piece, and lets its reader wait before each; takes nothing.
    struct Pieces(VecDeque<Vec<u8>>, bool);

    impl ErrorType for Pieces {
        type Error = ErrorKind;
    }

    impl Read for Pieces {
        async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
            poll_fn(|_| {
                self.1 = !self.1;
                if self.1 { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            let Some(piece) = self.0.front_mut() else { return Ok(0) };
            let count = piece.len().min(bytes.len());
            bytes[..count].copy_from_slice(&piece[..count]);
            piece.drain(..count);
            if piece.is_empty() {
                self.0.pop_front();
            }
            Ok(count)
        }
    }

    impl Write for Pieces {
        async fn write(&mut self, _bytes: &[u8]) -> Result<usize, ErrorKind> {
            core::future::pending().await
        }

        async fn flush(&mut self) -> Result<(), ErrorKind> {
            Ok(())
        }
    }

    /// Looks once at what the future says, and gives it up.
    fn look_once<F: Future>(future: F) -> Poll<F::Output> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn record(len: usize) -> Vec<u8> {
        let [high, low] = (len as u16).to_be_bytes();
        [23, 3, 3, high, low].into_iter().chain((0..len).map(|at| at as u8)).collect()
    }

    proptest! {
        /// As a TLS client does: it reads a head, then as much as that says, and may be given up where it waits.
        #[test]
        fn reader_that_is_given_up_wherever_it_waits_loses_nothing(
            lens in prop::collection::vec(0_usize..50, 1..8),
            pieces in prop::collection::vec(1_usize..40, 1..8),
        ) {
            let sent: Vec<u8> = lens.iter().flat_map(|len| record(*len)).collect();
            let (mut queue, mut rest, mut sizes) = (VecDeque::new(), &sent[..], pieces.iter().cycle());
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                queue.push_back(piece.to_vec());
                rest = behind;
            }
            let mut bytes = [0; 60];
            let mut stream = WholeRecords::new(Pieces(queue, false), &mut bytes);
            let mut got = Vec::new();
            while got.len() < sent.len() {
                let read = async {
                    let mut head = [0; HEAD_BYTES];
                    stream.read_exact(&mut head).await.unwrap();
                    let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
                    stream.read_exact(&mut body).await.unwrap();
                    [&head[..], &body].concat()
                };
                if let Poll::Ready(record) = look_once(read) {
                    got.extend(record);
                }
            }
            prop_assert_eq!(got, sent);
        }
    }

    #[test]
    fn stream_is_broken_once_a_write_was_given_up() {
        let mut bytes = [0; 60];
        let mut stream = WholeRecords::new(Pieces([record(3)].into(), false), &mut bytes);
        assert!(look_once(stream.write(b"half")).is_pending());
        assert_eq!(look_once(stream.write(b"more")), Poll::Ready(Err(ErrorKind::ConnectionReset)));
        assert_eq!(look_once(stream.read(&mut [0; 5])), Poll::Ready(Err(ErrorKind::ConnectionReset)));
    }

    #[test]
    fn handshake_in_the_clear_ends_the_stream_once_the_hello_came() {
        let hello = [22, 3, 3, 0, 1, 2];
        let mut bytes = [0; 60];
        let pieces = Pieces([hello.to_vec(), record(3), hello.to_vec()].into(), true);
        let mut stream = WholeRecords::new(pieces, &mut bytes);
        let mut read = |len: usize| {
            let mut bytes = vec![0; len];
            let read = async { stream.read_exact(&mut bytes).await };
            let mut read = pin!(read);
            loop {
                if let Poll::Ready(read) = read.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    return read.is_ok();
                }
            }
        };
        assert!(read(6) && read(8));
        assert!(!read(1));
        assert!(!read(1), "for good");
    }

    #[test]
    fn record_that_is_longer_than_the_room_ends_the_stream() {
        let mut bytes = [0; 60];
        let mut stream = WholeRecords::new(Pieces([record(100)].into(), true), &mut bytes);
        assert_eq!(look_once(stream.read(&mut [0; 5])), Poll::Ready(Err(ErrorKind::OutOfMemory)));
    }
}
