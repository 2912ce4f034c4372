//! The time: when it is known, where from, and how the moments between two settings are told.

use core::cell::Cell;

use embassy_time::Instant;
use zeugma_schemas::limits::TIME_US_MIN;

/// One moment, as the board knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Time since the start: never jumps, rules the schedule.
    pub at: Instant,
    /// Microseconds since 1970 UTC; `None` until somebody told the device.
    pub time_us: Option<i64>,
    /// How far local time is ahead of UTC at this moment.
    pub utc_offset_s: i32,
}

/// A time that a clock which was set may show; a guessed time is worse than none.
pub fn credible(time_us: Option<i64>) -> Option<i64> {
    time_us.filter(|us| *us >= TIME_US_MIN)
}

/// The device's clock: told the time by a time server, a meter or a satellite receiver, and counting on by itself.
#[derive(Debug, Default)]
pub struct Clock {
    /// Time ahead of the ticks, in microseconds.
    ahead_us: Cell<Option<i64>>,
}

impl Clock {
    /// A clock that was never set.
    pub const fn new() -> Clock {
        Clock { ahead_us: Cell::new(None) }
    }

    /// It was `time_us`, in microseconds since 1970 UTC, at `at`. A time that cannot be is not taken.
    pub fn set(&self, at: Instant, time_us: i64) {
        if let Some(time_us) = credible(Some(time_us)) {
            self.ahead_us.set(time_us.checked_sub_unsigned(at.as_micros()));
        }
    }

    /// The time at `at`.
    pub fn time_us(&self, at: Instant) -> Option<i64> {
        self.ahead_us.get()?.checked_add_unsigned(at.as_micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_that_was_never_set_shows_no_time() {
        let clock = Clock::new();
        assert_eq!(clock.time_us(Instant::from_secs(5)), None);
        clock.set(Instant::from_secs(5), 12_000_000);
        assert_eq!(clock.time_us(Instant::from_secs(5)), None);
    }

    #[test]
    fn clock_counts_on_from_where_it_was_set() {
        let clock = Clock::new();
        clock.set(Instant::from_secs(5), TIME_US_MIN);
        assert_eq!(clock.time_us(Instant::from_secs(7)), Some(TIME_US_MIN + 2_000_000));
    }
}
