//! When the next sample and the next health report are due; pure, `now` is an argument.

use embassy_time::{Duration, Instant};

/// After a failed sample of an eager sensor: long enough that a broken sensor does not keep the device awake.
const RETRY: Duration = Duration::from_secs(1);

/// Which of the device's two series of readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// The readings of the sensor.
    Sensor,
    /// The device's reports on itself.
    Health,
}

impl Channel {
    /// Both, in the order in which they are served.
    pub const ALL: [Channel; 2] = [Channel::Sensor, Channel::Health];
}

/// How often a channel is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At equal distances in time.
    Every(Duration),
    /// As soon as the outbox has room: as fast as readings are acknowledged.
    Eager,
}

/// The first moment behind `now` of those that are `every` apart, `due` one of them; and how many lie between.
pub fn beat_after(due: Instant, every: Duration, now: Instant) -> (Instant, u64) {
    // A distance of nothing would never pass `now`.
    let every_us = every.as_micros().max(1);
    let skipped = now.saturating_duration_since(due).as_micros() / every_us;
    (due + Duration::from_micros((skipped + 1) * every_us), skipped)
}

/// When each channel is due.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    paces: [Pace; 2],
    next: [Instant; 2],
}

impl Schedule {
    /// Begins at `start`, with a sample and, as a start is news, a health report; `phase` later, which
    /// keeps a fleet that is switched on together from speaking together.
    pub fn new(start: Instant, sensor: Pace, health_every: Duration, phase: Duration) -> Schedule {
        Schedule { paces: [sensor, Pace::Every(health_every)], next: [start + phase; 2] }
    }

    /// Whether `channel` is to be sampled at `now`.
    pub fn is_due(&self, channel: Channel, now: Instant) -> bool {
        self.next[channel as usize] <= now
    }

    /// When `channel` is due next.
    pub fn next(&self, channel: Channel) -> Instant {
        self.next[channel as usize]
    }

    /// Whether `channel` is sampled whenever there is room.
    pub fn is_eager(&self, channel: Channel) -> bool {
        self.paces[channel as usize] == Pace::Eager
    }

    /// Moves `channel` on after it was sampled at `now`; answers how many due moments passed unused.
    pub fn advance(&mut self, channel: Channel, now: Instant, sampled: bool) -> u64 {
        let next = &mut self.next[channel as usize];
        match self.paces[channel as usize] {
            Pace::Eager => {
                *next = if sampled { now } else { now + RETRY };
                0
            }
            Pace::Every(every) => {
                let (after, skipped) = beat_after(*next, every, now);
                *next = after;
                skipped
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(us: u64) -> Instant {
        Instant::from_micros(us)
    }

    fn every(us: u64) -> Schedule {
        let distance = Duration::from_micros(us);
        Schedule::new(at(0), Pace::Every(distance), distance, Duration::from_micros(0))
    }

    #[test]
    fn late_sample_keeps_the_beat_and_says_how_many_were_skipped() {
        let mut schedule = every(100);
        assert_eq!(schedule.advance(Channel::Sensor, at(0), true), 0);
        assert_eq!(schedule.next(Channel::Sensor), at(100));
        assert_eq!(schedule.advance(Channel::Sensor, at(350), true), 2);
        assert_eq!(schedule.next(Channel::Sensor), at(400));
    }

    #[test]
    fn eager_sensor_is_due_at_once_and_a_failed_one_a_second_later() {
        let mut schedule = Schedule::new(at(5), Pace::Eager, RETRY, Duration::from_micros(0));
        schedule.advance(Channel::Sensor, at(5), true);
        assert!(schedule.is_due(Channel::Sensor, at(5)));
        schedule.advance(Channel::Sensor, at(5), false);
        assert_eq!(schedule.next(Channel::Sensor), at(5) + RETRY);
    }

    #[test]
    fn both_channels_begin_after_the_phase() {
        let distance = Duration::from_secs(9);
        let schedule = Schedule::new(at(7), Pace::Every(distance), distance, Duration::from_micros(3));
        for channel in Channel::ALL {
            assert!(!schedule.is_due(channel, at(9)));
            assert!(schedule.is_due(channel, at(10)));
        }
    }

    proptest! {
        #[test]
        fn each_beat_is_either_sampled_or_counted_as_skipped(
            distance in 1u64..50, waits in prop::collection::vec(0u64..200, 1..100),
        ) {
            let (mut schedule, mut now, mut beats) = (every(distance), 0, 0);
            for wait in waits {
                now += wait;
                if schedule.is_due(Channel::Sensor, at(now)) {
                    beats += 1 + schedule.advance(Channel::Sensor, at(now), true);
                }
                prop_assert!(!schedule.is_due(Channel::Sensor, at(now)));
                prop_assert_eq!(beats, now / distance + 1);
            }
        }
    }
}
