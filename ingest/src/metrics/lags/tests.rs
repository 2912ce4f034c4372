use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000;

fn of(lags: &Lags, tenant: &str, now_us: i64) -> (i64, i64) {
    let found = lags.tenants(now_us).into_iter().find(|lag| &*lag.tenant == tenant);
    found.map_or((0, 0), |lag| (lag.visible_lag_us, lag.uncommitted_us))
}

#[test]
fn longest_wait_stays_for_half_a_minute_and_goes() {
    let mut lags = Lags::default();
    let begin = 100 * SECOND;
    lags.visible("fleet", "lamia", 5, 10, begin - 3 * SECOND, begin);
    lags.visible("fleet", "lamia", 5, 20, begin, begin);
    lags.visible("fleet", "szeged", 1, 20, begin, begin);
    assert_eq!(of(&lags, "lamia", begin + 10 * SECOND).0, 3 * SECOND);
    assert_eq!(of(&lags, "szeged", begin + 10 * SECOND).0, 0);
    lags.visible("fleet", "lamia", 5, 30, begin + 35 * SECOND, begin + 35 * SECOND);
    assert_eq!(of(&lags, "lamia", begin + 36 * SECOND).0, 3 * SECOND);
    assert_eq!(of(&lags, "lamia", begin + 99 * SECOND).0, 0);
    assert_eq!(lags.tenants(begin)[0].visible, 15);
}

#[test]
fn undecided_reading_is_a_lag_that_grows_until_it_is_decided() {
    let mut lags = Lags::default();
    lags.late("lamia", 10 * SECOND);
    lags.lookup_begins();
    lags.late("lamia", 20 * SECOND);
    assert_eq!(of(&lags, "lamia", 60 * SECOND).0, 50 * SECOND);
    // The look-up failed, and begins again with both.
    lags.lookup_begins();
    assert_eq!(lags.undecided_since_us(), Some(10 * SECOND));
    lags.decided();
    assert_eq!((of(&lags, "lamia", 60 * SECOND).0, lags.undecided_since_us()), (0, None));
}

#[test]
fn uncommitted_age_is_that_of_the_oldest_row_in_any_table() {
    let mut lags = Lags::default();
    lags.visible("fleet", "lamia", 1, 10, 100 * SECOND, 100 * SECOND);
    lags.visible("fleet", "lamia", 1, 20, 110 * SECOND, 110 * SECOND);
    lags.visible("parking", "lamia", 1, 15, 105 * SECOND, 105 * SECOND);
    assert_eq!(of(&lags, "lamia", 120 * SECOND).1, 20 * SECOND);
    lags.committed("fleet", 15);
    assert_eq!(of(&lags, "lamia", 120 * SECOND).1, 15 * SECOND);
    lags.committed("parking", 15);
    assert_eq!(of(&lags, "lamia", 120 * SECOND).1, 10 * SECOND);
    lags.committed("fleet", 20);
    assert_eq!(of(&lags, "lamia", 120 * SECOND).1, 0);
}

#[test]
fn late_rows_behind_newer_ones_count_until_they_are_committed() {
    let mut lags = Lags::default();
    lags.visible("fleet", "lamia", 1, 50, 100 * SECOND, 100 * SECOND);
    // Decided later, though it came before.
    lags.visible("fleet", "lamia", 1, 40, 90 * SECOND, 130 * SECOND);
    assert_eq!(of(&lags, "lamia", 130 * SECOND).1, 40 * SECOND);
    lags.committed("fleet", 50);
    assert_eq!(of(&lags, "lamia", 130 * SECOND).1, 0);
}

#[test]
fn tenants_beyond_the_limit_share_a_label() {
    let mut lags = Lags::default();
    for number in 0..TENANTS_MAX + 50 {
        lags.visible("fleet", &format!("town-{number}"), 1, 1, 0, 0);
    }
    assert_eq!(lags.tenants(0).len(), TENANTS_MAX + 1);
    let others = lags.tenants(0).into_iter().find(|lag| &*lag.tenant == OTHERS).unwrap();
    assert_eq!(others.visible, 50);
}

#[test]
fn block_of_an_earlier_process_has_no_acknowledgement() {
    let mut lags = Lags::default();
    lags.acknowledged(5, 100);
    lags.acknowledged(9, 200);
    assert_eq!(lags.acknowledged_at(3), None);
    assert_eq!(lags.acknowledged_at(5), Some(100));
    assert_eq!(lags.acknowledged_at(9), Some(200));
    assert_eq!(lags.acknowledged_at(9), None);
}

proptest! {
    /// Whatever comes and is committed: the age is never less than the true one, and no list grows.
    #[test]
    fn age_is_never_understated(steps in prop::collection::vec((1..5_000_000i64, 0..3u64), 1..300)) {
        let mut lags = Lags::default();
        let (mut now_us, mut rows) = (0, Vec::new());
        for (at, (later_us, commit)) in steps.into_iter().enumerate() {
            now_us += later_us;
            let position = at as Position + 1;
            lags.visible("fleet", "lamia", 1, position, now_us, now_us);
            rows.push((position, now_us));
            if commit == 0 {
                let through = position / 2;
                lags.committed("fleet", through);
                rows.retain(|(position, _)| *position > through);
            }
            let true_age = rows.first().map_or(0, |(_, since_us)| now_us - since_us);
            prop_assert!(of(&lags, "lamia", now_us).1 >= true_age);
            prop_assert!(lags.uncommitted["fleet"]["lamia"].len() <= MARKS_MAX);
        }
        lags.committed("fleet", Position::MAX);
        prop_assert_eq!(of(&lags, "lamia", now_us).1, 0);
    }
}
