//! Readings not yet acknowledged, in RAM: encoded once, kept in order, the oldest dropped first when full.
//!
//! In come encoded readings; out go batches of one channel. A reading leaves only when its batch is
//! [delivered](Outbox::delivered), or as the oldest of a full outbox, and then it is counted.

use heapless::Deque;

use crate::{batch::Batch, schedule::Channel};

/// Names a batch while it is under way; the caller never has two of one name.
pub type Ticket = u8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Sent(Ticket),
    /// Acknowledged, but behind an older reading that is not.
    Delivered,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    channel: Channel,
    state: State,
    start: u32,
    len: u16,
}

/// A ring of at most `RECORDS` readings whose encodings take at most `BYTES` together.
#[derive(Debug)]
pub struct Outbox<const RECORDS: usize, const BYTES: usize> {
    records: Deque<Record, RECORDS>,
    bytes: [u8; BYTES],
    /// Of the unacknowledged; the delivered may be squeezed out any time.
    used_bytes: usize,
    unacknowledged: usize,
    dropped: u64,
}

impl<const RECORDS: usize, const BYTES: usize> Default for Outbox<RECORDS, BYTES> {
    fn default() -> Self {
        Outbox { records: Deque::new(), bytes: [0; BYTES], used_bytes: 0, unacknowledged: 0, dropped: 0 }
    }
}

impl<const RECORDS: usize, const BYTES: usize> Outbox<RECORDS, BYTES> {
    /// How many readings are not acknowledged.
    pub fn len(&self) -> usize {
        self.unacknowledged
    }

    /// Whether every reading was acknowledged.
    pub fn is_empty(&self) -> bool {
        self.unacknowledged == 0
    }

    /// How many readings were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether `count` more readings of `bytes` bytes together can be kept without dropping another.
    pub fn has_room(&self, count: usize, bytes: usize) -> bool {
        self.unacknowledged + count <= RECORDS && self.used_bytes + bytes <= BYTES
    }

    /// Keeps one encoded reading as the newest; answers how many of the oldest were dropped for it.
    ///
    /// `bytes` that are larger than the whole outbox are not kept and count as one dropped.
    pub fn push(&mut self, channel: Channel, bytes: &[u8]) -> u64 {
        let before = self.dropped;
        if bytes.len() > BYTES || u16::try_from(bytes.len()).is_err() || RECORDS == 0 {
            self.dropped += 1;
            return 1;
        }
        while !self.has_room(1, bytes.len()) {
            self.drop_oldest();
        }
        if self.records.is_full() || self.spare_bytes() < bytes.len() {
            self.squeeze();
        }
        let start = self.end();
        let first_len = bytes.len().min(BYTES - start);
        self.bytes[start..start + first_len].copy_from_slice(&bytes[..first_len]);
        self.bytes[..bytes.len() - first_len].copy_from_slice(&bytes[first_len..]);
        let record = Record { channel, state: State::Waiting, start: start as u32, len: bytes.len() as u16 };
        self.records.push_back(record).expect("the squeeze left room");
        self.used_bytes += bytes.len();
        self.unacknowledged += 1;
        self.dropped - before
    }

    /// Adds waiting readings of `channel`, oldest first, to `batch` until it is full, and marks them with
    /// `ticket`; answers how many.
    pub fn gather(&mut self, channel: Channel, ticket: Ticket, batch: &mut Batch<'_>) -> usize {
        let mut count = 0;
        let waiting = self.records.iter_mut().filter(|r| r.channel == channel && r.state == State::Waiting);
        for record in waiting {
            let start = record.start as usize;
            let first_len = usize::from(record.len).min(BYTES - start);
            let rest_len = usize::from(record.len) - first_len;
            if !batch.push(&self.bytes[start..start + first_len], &self.bytes[..rest_len]) {
                break;
            }
            record.state = State::Sent(ticket);
            count += 1;
        }
        count
    }

    /// The batch was acknowledged: its readings leave. Answers how many, without those dropped meanwhile.
    pub fn delivered(&mut self, ticket: Ticket) -> usize {
        let mut count = 0;
        for record in self.records.iter_mut().filter(|r| r.state == State::Sent(ticket)) {
            record.state = State::Delivered;
            self.used_bytes -= usize::from(record.len);
            count += 1;
        }
        self.unacknowledged -= count;
        self.pop_delivered();
        count
    }

    /// The batch was refused or lost: its readings wait again, in their old places. Answers how many.
    pub fn release(&mut self, ticket: Ticket) -> usize {
        self.wait_again(|state| state == State::Sent(ticket))
    }

    /// All that is under way waits again.
    pub fn release_all(&mut self) -> usize {
        self.wait_again(|state| matches!(state, State::Sent(_)))
    }

    fn wait_again(&mut self, which: impl Fn(State) -> bool) -> usize {
        let mut count = 0;
        for record in self.records.iter_mut().filter(|r| which(r.state)) {
            record.state = State::Waiting;
            count += 1;
        }
        count
    }

    fn drop_oldest(&mut self) {
        self.pop_delivered();
        if let Some(record) = self.records.pop_front() {
            self.used_bytes -= usize::from(record.len);
            self.unacknowledged -= 1;
            self.dropped += 1;
        }
    }

    fn pop_delivered(&mut self) {
        while self.records.front().is_some_and(|r| r.state == State::Delivered) {
            self.records.pop_front();
        }
    }

    /// Moves what is not acknowledged together: a refused reading must not pin the delivered ones behind it.
    fn squeeze(&mut self) {
        let mut end = self.records.front().map_or(0, |r| r.start as usize);
        for _ in 0..self.records.len() {
            let Some(mut record) = self.records.pop_front() else { break };
            if record.state == State::Delivered {
                continue;
            }
            let start = record.start as usize;
            record.start = end as u32;
            // Forwards, from a later place in the ring to an earlier one: nothing is overwritten unread.
            for i in 0..usize::from(record.len) {
                self.bytes[end] = self.bytes[(start + i) % BYTES];
                end = (end + 1) % BYTES;
            }
            self.records.push_back(record).expect("one was just taken out");
        }
    }

    /// Bytes between the end of the newest and the start of the oldest record, delivered ones included.
    fn spare_bytes(&self) -> usize {
        BYTES - self.records.iter().map(|r| usize::from(r.len)).sum::<usize>()
    }

    /// Where the next reading's bytes begin.
    fn end(&self) -> usize {
        self.records.back().map_or(0, |r| (r.start as usize + usize::from(r.len)) % BYTES)
    }
}
