//! Readings in RAM: encoded once, kept in order, the oldest dropped first when full.
//!
//! In come encoded readings; out go batches of one channel. A reading leaves only when its batch is
//! [delivered](Ring::delivered), or as the oldest of a full ring.

use heapless::Deque;

use crate::{
    anchor::{Anchors, Fixed},
    batch::Batch,
    record::{Key, Stamp},
    schedule::Channel,
};

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
struct Slot {
    key: Key,
    stamp: Stamp,
    state: State,
    start: u32,
    len: u16,
}

/// At most `RECORDS` readings whose encodings take at most `BYTES` together.
#[derive(Debug)]
pub struct Ring<const RECORDS: usize, const BYTES: usize> {
    slots: Deque<Slot, RECORDS>,
    bytes: [u8; BYTES],
    /// Of the unacknowledged; the delivered may be squeezed out any time.
    used_bytes: usize,
    unacknowledged: usize,
}

impl<const RECORDS: usize, const BYTES: usize> Default for Ring<RECORDS, BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const RECORDS: usize, const BYTES: usize> Ring<RECORDS, BYTES> {
    /// An empty ring.
    pub const fn new() -> Self {
        Ring { slots: Deque::new(), bytes: [0; BYTES], used_bytes: 0, unacknowledged: 0 }
    }

    /// How many readings are not acknowledged.
    pub fn len(&self) -> usize {
        self.unacknowledged
    }

    /// Whether every reading was acknowledged.
    pub fn is_empty(&self) -> bool {
        self.unacknowledged == 0
    }

    /// Whether `count` more readings of `bytes` bytes together can be kept without dropping another.
    pub fn has_room(&self, count: usize, bytes: usize) -> bool {
        self.unacknowledged + count <= RECORDS && self.used_bytes + bytes <= BYTES
    }

    /// Keeps one reading as the newest; answers how many of the oldest were dropped for it.
    ///
    /// Fields that are larger than the whole ring are not kept and count as one dropped.
    pub fn push(&mut self, key: Key, stamp: Stamp, fields: &[u8]) -> u32 {
        if fields.len() > BYTES || u16::try_from(fields.len()).is_err() || RECORDS == 0 {
            return 1;
        }
        let mut dropped = 0;
        while !self.has_room(1, fields.len()) {
            dropped += u32::from(self.drop_oldest());
        }
        if self.slots.is_full() || self.spare_bytes() < fields.len() {
            self.squeeze();
        }
        let start = self.end();
        let first_len = fields.len().min(BYTES - start);
        self.bytes[start..start + first_len].copy_from_slice(&fields[..first_len]);
        self.bytes[..fields.len() - first_len].copy_from_slice(&fields[first_len..]);
        let slot = Slot { key, stamp, state: State::Waiting, start: start as u32, len: fields.len() as u16 };
        self.slots.push_back(slot).expect("the squeeze left room");
        self.used_bytes += fields.len();
        self.unacknowledged += 1;
        dropped
    }

    /// Fixes the time of every reading that has ticks, now that the time of the ticks is known.
    pub fn anchor(&mut self, anchors: &Anchors) {
        for slot in &mut self.slots {
            if let Fixed::Stamp(stamp) = anchors.fix(slot.key.channel, slot.stamp) {
                slot.stamp = stamp;
            }
        }
    }

    /// Adds waiting readings of `channel`, oldest first, to `batch` until it is full, and marks them with
    /// `ticket`; answers how many. No other batch's reading of the channel lies between those of one.
    pub fn gather(&mut self, channel: Channel, ticket: Ticket, batch: &mut Batch<'_>) -> usize {
        let mut count = 0;
        for slot in self.slots.iter_mut().filter(|slot| slot.key.channel == channel) {
            let Stamp::Time(time_us) = slot.stamp else { break };
            match slot.state {
                State::Waiting => {}
                State::Sent(_) if count > 0 => break,
                State::Sent(_) | State::Delivered => continue,
            }
            let start = slot.start as usize;
            let first_len = usize::from(slot.len).min(BYTES - start);
            let rest_len = usize::from(slot.len) - first_len;
            let parts = [&self.bytes[start..start + first_len], &self.bytes[..rest_len]];
            if !batch.push(time_us, slot.key.seq, parts) {
                break;
            }
            slot.state = State::Sent(ticket);
            count += 1;
        }
        count
    }

    /// The first and the last reading of a batch, if any is left of it.
    pub fn ends(&self, ticket: Ticket) -> Option<(Key, Key)> {
        let mut sent = self.slots.iter().filter(|slot| slot.state == State::Sent(ticket));
        let first = sent.next()?;
        Some((first.key, sent.next_back().unwrap_or(first).key))
    }

    /// The batch was acknowledged: its readings leave. Answers how many, without those dropped meanwhile.
    pub fn delivered(&mut self, ticket: Ticket) -> usize {
        let mut count = 0;
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Sent(ticket)) {
            slot.state = State::Delivered;
            self.used_bytes -= usize::from(slot.len);
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
        for slot in self.slots.iter_mut().filter(|slot| which(slot.state)) {
            slot.state = State::Waiting;
            count += 1;
        }
        count
    }

    /// Drops this reading, if it is there.
    pub fn discard(&mut self, key: Key) {
        let live = |slot: &&mut Slot| slot.key == key && slot.state != State::Delivered;
        if let Some(slot) = self.slots.iter_mut().find(live) {
            slot.state = State::Delivered;
            self.used_bytes -= usize::from(slot.len);
            self.unacknowledged -= 1;
        }
        self.pop_delivered();
    }

    fn drop_oldest(&mut self) -> bool {
        self.pop_delivered();
        let Some(slot) = self.slots.pop_front() else { return false };
        self.used_bytes -= usize::from(slot.len);
        self.unacknowledged -= 1;
        true
    }

    fn pop_delivered(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.state == State::Delivered) {
            self.slots.pop_front();
        }
    }

    /// Moves what is not acknowledged together: a refused reading must not pin the delivered ones behind it.
    fn squeeze(&mut self) {
        let mut end = self.slots.front().map_or(0, |slot| slot.start as usize);
        for _ in 0..self.slots.len() {
            let Some(mut slot) = self.slots.pop_front() else { break };
            if slot.state == State::Delivered {
                continue;
            }
            let start = slot.start as usize;
            slot.start = end as u32;
            // Forwards, from a later place in the ring to an earlier one: nothing is overwritten unread.
            for i in 0..usize::from(slot.len) {
                self.bytes[end] = self.bytes[(start + i) % BYTES];
                end = (end + 1) % BYTES;
            }
            self.slots.push_back(slot).expect("one was just taken out");
        }
    }

    /// Bytes between the end of the newest and the start of the oldest reading, delivered ones included.
    fn spare_bytes(&self) -> usize {
        BYTES - self.slots.iter().map(|slot| usize::from(slot.len)).sum::<usize>()
    }

    /// Where the next reading's bytes begin.
    fn end(&self) -> usize {
        self.slots.back().map_or(0, |slot| (slot.start as usize + usize::from(slot.len)) % BYTES)
    }
}
