//! The time of a reading: given from outside, and for each domain always later than the one before.

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

/// Makes times that strictly increase: a reading is identified by its device and `time`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stamp {
    last_us: i64,
}

impl Stamp {
    /// The time for a reading taken now, at least 1 us after the one before, whatever the clock does.
    ///
    /// `None` where the clock was never set: a guessed time is worse than no reading.
    pub fn next(&mut self, now_us: Option<i64>) -> Option<i64> {
        let now_us = now_us.filter(|us| *us >= TIME_US_MIN)?;
        self.last_us = now_us.max(self.last_us + 1);
        Some(self.last_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn clock_that_was_never_set_gives_no_time() {
        let mut stamp = Stamp::default();
        assert_eq!(stamp.next(None), None);
        assert_eq!(stamp.next(Some(12_000_000)), None);
        assert_eq!(stamp.next(Some(TIME_US_MIN)), Some(TIME_US_MIN));
    }

    proptest! {
        #[test]
        fn times_strictly_increase_even_when_the_clock_steps_back(
            clock in prop::collection::vec(TIME_US_MIN..TIME_US_MIN + 50, 1..200),
        ) {
            let mut stamp = Stamp::default();
            let times: std::vec::Vec<i64> =
                clock.iter().map(|us| stamp.next(Some(*us)).expect("clock is set")).collect();
            prop_assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(times.iter().zip(&clock).all(|(time, now)| time >= now));
        }
    }
}
