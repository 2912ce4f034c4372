//! How things vary over a day and a week, the integral of that for counters, and smooth noise; pure.

use crate::random::mixed;

const DAY_S: i64 = 86_400;

/// 2020-01-06, a Monday: integrals begin here.
const MONDAY_ZERO: i64 = 18_267;

/// A moment by the local clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Local {
    /// Days since 1970-01-01.
    pub day: i64,
    /// Hours since local midnight.
    pub hour: f64,
}

impl Local {
    /// What clocks show at `time_us` where they are `utc_offset_s` ahead of UTC.
    pub fn at(time_us: i64, utc_offset_s: i32) -> Local {
        let local_us = time_us + i64::from(utc_offset_s) * 1_000_000;
        let day = local_us.div_euclid(DAY_S * 1_000_000);
        let hour = local_us.rem_euclid(DAY_S * 1_000_000) as f64 / 3.6e9;
        Local { day, hour }
    }

    /// Whether it is Saturday or Sunday.
    pub fn is_weekend(&self) -> bool {
        (self.day - MONDAY_ZERO).rem_euclid(7) >= 5
    }
}

/// A day by 24 values, one for each full hour, with straight lines between them.
pub type Day = [f64; 24];

/// A week of five workdays and a weekend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Week {
    /// Monday to Friday.
    pub workday: Day,
    /// Saturday and Sunday.
    pub weekend: Day,
}

impl Week {
    /// The value at a moment.
    pub fn value(&self, local: Local) -> f64 {
        value(self.day(local.is_weekend()), local.hour)
    }

    /// Value times hours, summed since the first Monday of 2020.
    pub fn hours_since_zero(&self, local: Local) -> f64 {
        let days = local.day - MONDAY_ZERO;
        let (weeks, weekday) = (days.div_euclid(7), days.rem_euclid(7));
        let [workday, weekend] = [false, true].map(|is_weekend| sum_until(self.day(is_weekend), 24.0));
        let whole_weeks = weeks as f64 * (5.0 * workday + 2.0 * weekend);
        let whole_days = weekday.min(5) as f64 * workday + (weekday - 5).max(0) as f64 * weekend;
        whole_weeks + whole_days + sum_until(self.day(local.is_weekend()), local.hour)
    }

    fn day(&self, is_weekend: bool) -> &Day {
        if is_weekend { &self.weekend } else { &self.workday }
    }
}

fn value(day: &Day, hour: f64) -> f64 {
    let from = hour as usize % 24;
    let part = hour - libm::floor(hour);
    day[from] + (day[(from + 1) % 24] - day[from]) * part
}

/// The area under the day's line from midnight to `hour`: trapezoids.
fn sum_until(day: &Day, hour: f64) -> f64 {
    let full = (hour as usize).min(24);
    let whole: f64 = (0..full).map(|h| (day[h] + day[(h + 1) % 24]) / 2.0).sum();
    let part = hour - full as f64;
    if full == 24 { whole } else { whole + part * (day[full] + value(day, hour)) / 2.0 }
}

/// Noise between -1 and 1 that takes about `knot_s` to change its mind.
pub fn noise(seed: u64, knot_s: i64, time_us: i64) -> f64 {
    let knot_us = knot_s * 1_000_000;
    let knot = time_us.div_euclid(knot_us);
    let part = time_us.rem_euclid(knot_us) as f64 / knot_us as f64;
    let smooth = part * part * (3.0 - 2.0 * part);
    let [from, to] = [knot, knot + 1].map(|k| 2.0 * fraction(seed ^ mixed(k as u64)) - 1.0);
    from + (to - from) * smooth
}

/// A number from 0 up to 1 that follows from `seed`.
pub fn fraction(seed: u64) -> f64 {
    (mixed(seed) >> 11) as f64 / (1u64 << 53) as f64
}

/// `value` rounded to steps of 1 / `per_unit`: sensors have a resolution, and short numbers are short texts.
pub fn rounded(value: f64, per_unit: f64) -> f64 {
    libm::round(value * per_unit) / per_unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn week() -> Week {
        let mut workday = [1.0; 24];
        workday[12] = 25.0;
        Week { workday, weekend: [2.0; 24] }
    }

    #[test]
    fn local_clock_and_weekend_follow_the_offset() {
        // 2026-11-22 was a Sunday; half past eleven at night in UTC is Monday two hours further east.
        let sunday_night_us = 1_795_390_200_000_000;
        let utc = Local::at(sunday_night_us, 0);
        assert_eq!((utc.hour, utc.is_weekend()), (23.5, true));
        let east = Local::at(sunday_night_us, 7_200);
        assert_eq!((east.hour, east.is_weekend(), east.day), (1.5, false, utc.day + 1));
    }

    #[test]
    fn integral_of_a_week_is_the_area_under_it() {
        let at = |day, hour| week().hours_since_zero(Local { day: MONDAY_ZERO + day, hour });
        assert_eq!(at(0, 0.0), 0.0);
        assert_eq!(at(0, 11.0), 11.0);
        assert_eq!(at(0, 12.0), 11.0 + 13.0);
        assert_eq!(at(0, 11.5), 11.0 + (1.0 + 13.0) / 2.0 / 2.0);
        assert_eq!(at(1, 0.0), 24.0 + 24.0);
        assert_eq!(at(7, 0.0), 5.0 * 48.0 + 2.0 * 48.0);
    }

    proptest! {
        #[test]
        fn integral_never_falls_and_noise_stays_small(a in 0i64..400_000_000, b in 0i64..400_000_000, seed: u64) {
            let sum = |s: i64| week().hours_since_zero(Local::at((MONDAY_ZERO * DAY_S + s) * 1_000_000, 0));
            prop_assert!(sum(a.min(b)) <= sum(a.max(b)) + 1e-6);
            prop_assert!(noise(seed, 60, a * 1_000).abs() <= 1.0);
        }
    }
}
