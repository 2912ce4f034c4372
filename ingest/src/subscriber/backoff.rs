//! How long to wait before the next attempt to reach a broker.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// The first pauses lie between this and twice this.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// No pause is longer.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The pause after so many attempts in a row have failed: a span that doubles with each, of which the seed
/// chooses a point in the upper half, so that many sources do not come back at the same moment.
pub(super) fn pause(failed: u32, seed: &str) -> Duration {
    // 0.5 s x 2^6 is beyond the longest pause.
    let span = (PAUSE_MIN * (2 << failed.min(6))).min(PAUSE_MAX);
    let mut hasher = DefaultHasher::new();
    (seed, failed).hash(&mut hasher);
    let share = (hasher.finish() >> 32) as f64 / f64::from(u32::MAX);
    span / 2 + (span / 2).mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_half_a_second_to_thirty() {
        for failed in 0..40 {
            for seed in ["a", "b", "c"] {
                let pause = pause(failed, seed);
                assert!((PAUSE_MIN..=PAUSE_MAX).contains(&pause), "{failed}: {pause:?}");
                assert!(failed > 0 || pause <= 2 * PAUSE_MIN);
                assert!(failed < 6 || pause >= PAUSE_MAX / 2);
            }
        }
    }

    #[test]
    fn sources_do_not_come_back_together() {
        assert_ne!(pause(3, "a"), pause(3, "b"));
        assert_ne!(pause(8, "a"), pause(9, "a"));
    }
}
