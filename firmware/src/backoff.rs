//! How long to wait after a failure: doubling up to a ceiling, with jitter so that a fleet does not return as one.

use embassy_time::Duration;

use crate::random::Random;

/// The first wait is at most this.
const FIRST: Duration = Duration::from_millis(500);

/// Counts failures in a row.
#[derive(Debug, Clone)]
pub struct Backoff {
    failures: u32,
    ceiling: Duration,
}

impl Backoff {
    /// Waits are never longer than `ceiling`.
    pub const fn new(ceiling: Duration) -> Backoff {
        Backoff { failures: 0, ceiling }
    }

    /// How long to wait after one more failure: between half and all of 0.5 s, 1 s, 2 s, ... up to the ceiling.
    pub fn after_failure(&mut self, random: &mut Random) -> Duration {
        // 16 doublings of 0.5 s are nine hours: beyond any ceiling, far from overflow.
        let whole_us = (FIRST.as_micros() << self.failures.min(16)).min(self.ceiling.as_micros());
        self.failures = self.failures.saturating_add(1);
        Duration::from_micros(whole_us / 2 + random.below(whole_us / 2 + 1))
    }

    /// Whether the last attempt failed.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// What was tried worked.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_with_jitter_up_to_the_ceiling_and_begin_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_secs(10));
        let mut random = Random::seeded(3);
        for whole_ms in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            let wait_ms = backoff.after_failure(&mut random).as_millis();
            assert!((whole_ms / 2..=whole_ms).contains(&wait_ms), "{wait_ms} of {whole_ms}");
        }
        backoff.succeeded();
        assert!(backoff.after_failure(&mut random).as_millis() <= 500);
    }

    #[test]
    fn a_million_failures_still_wait_no_longer_than_the_ceiling() {
        let mut backoff = Backoff { failures: u32::MAX, ceiling: Duration::from_secs(60) };
        assert!(backoff.after_failure(&mut Random::seeded(1)) <= Duration::from_secs(60));
    }
}
