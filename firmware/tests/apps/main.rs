//! The applications on raw input, recorded or generated: what they report is what was there.

mod bay;
mod meter;
mod tracker;

use embassy_time::Instant;
use zeugma_firmware::{clock::Moment, serial::Serial};

/// 2026-11-23, a Monday, 12:00 UTC.
const NOON_US: i64 = 1_795_435_200_000_000;

fn moment(ms: u64) -> Moment {
    Moment { at: Instant::from_millis(ms), time_us: Some(NOON_US + ms as i64 * 1_000), utc_offset_s: 0 }
}

/// Bytes that came over a wire and wait.
#[derive(Default)]
struct Wire(std::cell::RefCell<std::collections::VecDeque<u8>>);

impl Wire {
    fn say(&self, bytes: &[u8]) {
        self.0.borrow_mut().extend(bytes);
    }
}

impl Serial for &Wire {
    fn next(&mut self) -> Option<u8> {
        self.0.borrow_mut().pop_front()
    }
}
