//! The way from the journal to acceptance: synced blocks in their order, bounded by their bytes.
//!
//! Acceptance may fall behind for a moment - a file is being sealed, a query runs - without holding back
//! acknowledgements; what waits is joined, so that it catches up with few large steps instead of many small
//! ones. Beyond the bound the journal waits, and with it whoever publishes.

use std::sync::Arc;

use futures::executor::block_on;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use zeugma_journal::Synced;

/// Bytes that may wait: half a second at 200,000 readings a second, of 150 bytes with their headers.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// A block counts as one of these at least, so that blocks have a bound as well as bytes.
const UNIT_BYTES: usize = 4 << 10;

/// Blocks that may wait, each with a few readings only.
pub const WAITING_MAX: usize = WAITING_BYTES_MAX / UNIT_BYTES;

/// Records of joined blocks: what one step of acceptance takes well under 10 ms for.
const JOINED_RECORDS_MAX: usize = 4_096;

/// Both ends.
pub fn blocks() -> (Sender, Blocks) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(WAITING_MAX));
    (Sender { sender, room: room.clone() }, Blocks { receiver, room, left: None })
}

/// The journal's end.
#[derive(Debug, Clone)]
pub struct Sender {
    sender: mpsc::UnboundedSender<Waiting>,
    room: Arc<Semaphore>,
}

impl Sender {
    /// Hands a block over, as soon as there is room; says `false` where nobody takes any more. A block over
    /// the bound has all the room for itself.
    pub fn hand_over(&self, block: Synced) -> bool {
        let units = block.batch.bytes().div_ceil(UNIT_BYTES).clamp(1, WAITING_MAX);
        match block_on(self.room.clone().acquire_many_owned(units as u32)) {
            Ok(room) => self.sender.send((block, room)).is_ok(),
            Err(_) => false,
        }
    }
}

/// Acceptance's end.
#[derive(Debug)]
pub struct Blocks {
    receiver: mpsc::UnboundedReceiver<Waiting>,
    room: Arc<Semaphore>,
    /// Taken from the way, and not joined with what was before it.
    left: Option<Waiting>,
}

type Waiting = (Synced, OwnedSemaphorePermit);

impl Blocks {
    /// The next block, joined with those that wait behind it; none where no more will come. Dropped before
    /// it is ready, it has taken nothing.
    pub async fn next(&mut self) -> Option<Synced> {
        let (mut joined, _room) = match self.left.take() {
            Some(left) => left,
            None => self.receiver.recv().await?,
        };
        while joined.batch.len() < JOINED_RECORDS_MAX
            && let Ok((block, room)) = self.receiver.try_recv()
        {
            // A journal that was mended has gaps.
            if block.first != joined.last() + 1 {
                self.left = Some((block, room));
                break;
            }
            joined.batch.append(&block.batch);
        }
        Some(joined)
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.room.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zeugma_journal::{Batch, Payload, Record};

    use super::*;

    fn block(first: u64, records: usize, bytes: usize) -> Synced {
        let mut batch = Batch::default();
        for _ in 0..records {
            let payload = Payload::Whole(&vec![7; bytes]);
            batch.push(&Record { tenant: None, topic: "t", received_at_us: 1, payload });
        }
        Synced { first, batch }
    }

    fn shape(block: &Synced) -> (u64, usize) {
        (block.first, block.batch.len())
    }

    #[tokio::test]
    async fn what_waits_is_joined_in_its_order_up_to_a_bound_and_not_across_a_gap() {
        let (sender, mut blocks) = blocks();
        for (first, records) in [(1, 2), (3, 1), (9, 1), (10, JOINED_RECORDS_MAX), (10 + 4_096, 1)] {
            assert!(sender.hand_over(block(first, records, 10)));
        }
        drop(sender);
        assert_eq!(blocks.next().await.as_ref().map(shape), Some((1, 3)));
        assert_eq!(blocks.next().await.as_ref().map(shape), Some((9, 1 + JOINED_RECORDS_MAX)));
        assert_eq!(blocks.next().await.as_ref().map(shape), Some((10 + 4_096, 1)));
        assert!(blocks.next().await.is_none());
    }

    #[tokio::test]
    async fn journal_waits_beyond_the_bound_and_one_block_always_fits() {
        let (sender, mut blocks) = blocks();
        assert!(sender.hand_over(block(1, 2, WAITING_BYTES_MAX)));
        let waiting = std::thread::spawn(move || sender.hand_over(block(3, 1, 10)));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        assert_eq!(blocks.next().await.as_ref().map(shape), Some((1, 2)));
        assert_eq!(blocks.next().await.as_ref().map(shape), Some((3, 1)));
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn journal_that_waits_hears_that_nobody_takes_any_more() {
        let (sender, blocks) = blocks();
        assert!(sender.hand_over(block(1, 1, WAITING_BYTES_MAX)));
        let waiting = std::thread::spawn(move || sender.hand_over(block(2, 1, 10)));
        std::thread::sleep(Duration::from_millis(50));
        drop(blocks);
        assert!(!waiting.join().unwrap());
    }
}
