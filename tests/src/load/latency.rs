//! Latencies, counted in buckets that are at most three in a hundred wide.

use std::time::Duration;

/// Each doubling has this many buckets.
const STEPS: u64 = 32;

/// Counts of latencies.
#[derive(Debug, Clone, Default)]
pub struct Latency {
    counts: Vec<u64>,
    count: u64,
    max_us: u64,
}

impl Latency {
    /// Counts one latency `times` times.
    pub fn add(&mut self, latency: Duration, times: u64) {
        let us = latency.as_micros() as u64;
        let bucket = bucket(us);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += times;
        self.count += times;
        self.max_us = self.max_us.max(us);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max_us)
    }

    /// What so large a share of all stays below, as 0.99.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Duration::from_micros(upper_us(bucket).min(self.max_us));
            }
        }
        self.max()
    }
}

/// Below [`STEPS`] each microsecond has its bucket, above each doubling has [`STEPS`] of them.
fn bucket(us: u64) -> usize {
    if us < STEPS {
        return us as usize;
    }
    let doubling = u64::from(us.ilog2() - STEPS.ilog2());
    (STEPS + doubling * STEPS + ((us >> doubling) - STEPS)) as usize
}

/// The largest latency of a bucket.
fn upper_us(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let doubling = (bucket - STEPS) / STEPS;
    let step = (bucket - STEPS) % STEPS;
    ((STEPS + step + 1) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_below_the_end_of_its_bucket_and_not_far() {
        for us in (0..5_000).chain([12_345, 99_999, 1_234_567, 3_600_000_000]) {
            let upper = upper_us(bucket(us));
            assert!(us <= upper && upper - us <= us / 32, "{us}: {upper}");
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let mut latency = Latency::default();
        (1..=1_000).for_each(|ms| latency.add(Duration::from_millis(ms), 1));
        let close = |share: f64, ms: u128| {
            let found = latency.quantile(share).as_millis();
            assert!(found.abs_diff(ms) <= ms / 32 + 1, "{share}: {found} ms");
        };
        close(0.5, 500);
        close(0.99, 990);
        assert_eq!(latency.max(), Duration::from_secs(1));
    }
}
