use super::*;

const NOW: i64 = BUILT_US + 86_400_000_000;
const SECOND: i64 = 1_000_000;

fn hear(clock: &mut CredibleClock, tenant: &str, devices: std::ops::Range<usize>, ahead: bool, now_us: i64) {
    for device in devices {
        clock.hear(tenant, 1, ahead.into(), now_us);
        if ahead {
            clock.hear_ahead(tenant, &format!("device-{device}"));
        }
    }
}

fn doubted(now_us: i64) -> CredibleClock {
    let mut clock = CredibleClock::new();
    clock.look(now_us);
    hear(&mut clock, "lamia", 0..DEVICES_MIN, true, now_us);
    assert_eq!(clock.look(now_us + SECOND), Some(Doubt::ManyAhead { tenants: 1 }));
    clock
}

#[test]
fn clock_before_the_build_is_doubted_until_it_is_set() {
    let mut clock = CredibleClock::new();
    let doubt = clock.look(0).expect("a doubt");
    assert!(doubt.to_string().contains("the year 1970"), "{doubt}");
    assert!(clock.look(BUILT_US - 1).is_some());
    assert_eq!(clock.look(NOW), None);
}

#[test]
fn many_devices_ahead_of_us_make_doubt_and_few_do_not() {
    let mut clock = CredibleClock::new();
    hear(&mut clock, "lamia", 0..DEVICES_MIN - 1, true, NOW);
    // The same one again is no further device.
    hear(&mut clock, "lamia", 0..1, true, NOW);
    assert_eq!(clock.look(NOW), None);
    hear(&mut clock, "lamia", DEVICES_MIN..DEVICES_MIN + 1, true, NOW);
    assert!(matches!(clock.look(NOW), Some(Doubt::ManyAhead { tenants: 1 })));
}

#[test]
fn readings_that_fit_outweigh_those_ahead() {
    let mut clock = CredibleClock::new();
    hear(&mut clock, "lamia", 0..30, true, NOW);
    hear(&mut clock, "lamia", 0..30, false, NOW);
    assert_eq!(clock.look(NOW), None);
}

#[test]
fn one_town_cannot_stop_its_neighbours() {
    let mut clock = CredibleClock::new();
    for _ in 0..100 {
        hear(&mut clock, "lamia", 0..30, true, NOW);
    }
    hear(&mut clock, "szeged", 0..1, false, NOW);
    assert_eq!(clock.look(NOW), None, "one of two is not most");
    hear(&mut clock, "ostrava", 0..2, true, NOW);
    assert_eq!(clock.look(NOW), Some(Doubt::ManyAhead { tenants: 2 }));
}

#[test]
fn what_was_heard_long_ago_counts_no_more() {
    let mut clock = CredibleClock::new();
    hear(&mut clock, "lamia", 0..10, true, NOW);
    hear(&mut clock, "lamia", 10..DEVICES_MIN, true, NOW + 35 * SECOND);
    assert!(clock.look(NOW + 35 * SECOND).is_some(), "both halves of the window count");
    let mut clock = CredibleClock::new();
    hear(&mut clock, "lamia", 0..10, true, NOW);
    hear(&mut clock, "lamia", 10..DEVICES_MIN, true, NOW + 70 * SECOND);
    assert_eq!(clock.look(NOW + 70 * SECOND), None);
}

#[test]
fn doubt_stays_without_news_and_ends_when_the_clock_is_set() {
    let mut clock = doubted(NOW);
    let mut now_us = NOW + SECOND;
    for _ in 0..600 {
        now_us += SECOND;
        clock.judge_waiting(100, 100);
        assert!(clock.look(now_us).is_some());
    }
    assert_eq!(clock.look(now_us + 3_600 * SECOND), None, "an hour forward");
}

#[test]
fn doubt_ends_when_what_waits_fits_the_clock() {
    let mut clock = doubted(NOW);
    clock.judge_waiting(100, 51);
    assert!(clock.look(NOW + 2 * SECOND).is_some());
    clock.judge_waiting(100, 50);
    assert_eq!(clock.look(NOW + 3 * SECOND), None);
}

#[test]
fn doubt_without_anybody_to_ask_ends_after_a_minute() {
    let mut clock = doubted(NOW);
    for look in 2..=i64::from(QUIET_LOOKS_MAX) {
        clock.judge_waiting(0, 0);
        assert!(clock.look(NOW + look * SECOND).is_some());
    }
    clock.judge_waiting(0, 0);
    assert_eq!(clock.look(NOW + 61 * SECOND), None);
}

#[test]
fn operator_can_say_that_the_clock_is_right() {
    let mut clock = doubted(NOW);
    clock.trust();
    assert_eq!((clock.look(NOW), clock.look(0)), (None, None));
}

#[test]
fn packager_s_date_is_read_and_nonsense_is_not() {
    assert_eq!(number("1800000000"), 1_800_000_000);
    assert_eq!((number(""), number("soon"), number("99999999999999999999")), (0, 0, 0));
}
