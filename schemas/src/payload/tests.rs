use proptest::prelude::*;

use super::*;
use crate::{
    batch::{Builder, Origin},
    domain::Domains,
    domains::{DeviceHealth, Fleet, Measurement},
};

const NOW_US: i64 = 1_790_000_000_000_000;

fn domain(name: &str) -> std::sync::Arc<Domain> {
    Domains::builtin().get(name).unwrap().clone()
}

fn fleet(time_us: i64) -> Vec<u8> {
    let mut buf = [0; 256];
    let reading = Fleet { latitude: 1.0, longitude: 2.0, ignition: Some(true), ..Fleet::default() };
    let len = reading.encode_avro(time_us, 7, &mut buf).unwrap();
    buf[..len].to_vec()
}

/// What became of each reading: its time, or the reason it was refused.
fn outcomes(name: &str, payload: &[u8]) -> Vec<Result<i64, Reason>> {
    let found = readings(&domain(name), payload, NOW_US);
    found.into_iter().map(|reading| reading.map(|found| found.time_us).map_err(|bad| bad.reason)).collect()
}

fn json(payload: &str) -> Vec<Result<i64, Reason>> {
    outcomes("fleet", payload.as_bytes())
}

#[test]
fn frames_back_to_back_are_read_until_one_has_no_end() {
    let payload = [fleet(NOW_US - 2), fleet(NOW_US - 1), b"?".to_vec(), fleet(NOW_US)].concat();
    assert_eq!(outcomes("fleet", &payload), [Ok(NOW_US - 2), Ok(NOW_US - 1), Err(Reason::Content)]);
    let found = readings(&domain("fleet"), &payload, NOW_US);
    let rest = found[2].as_ref().unwrap_err();
    assert_eq!((rest.index, rest.bytes.len()), (2, 1 + fleet(NOW_US).len()));
}

#[test]
fn frame_with_bad_content_but_a_known_end_loses_no_neighbour() {
    let mut buf = [0; 256];
    let health = DeviceHealth { firmware: Some("1.0"), ..DeviceHealth::default() };
    let len = health.encode_avro(NOW_US, 1, &mut buf).unwrap();
    let good = buf[..len].to_vec();
    let mut bad = good.clone();
    let text = bad.windows(3).position(|window| window == b"1.0").unwrap();
    bad[text] = 0xff;
    assert_eq!(outcomes("device_health", &[bad, good].concat()), [Err(Reason::Content), Ok(NOW_US)]);
}

#[test]
fn json_times_are_rfc_3339_with_an_offset_or_microseconds() {
    let reading = |time: &str| format!(r#"{{"time":{time},"latitude":1,"longitude":2}}"#);
    for (time, wanted) in [
        (r#""2026-01-01T00:00:00Z""#, Ok(1_767_225_600_000_000)),
        (r#""2026-01-01T02:00:00.1234567+02:00""#, Ok(1_767_225_600_123_456)),
        ("1767225600000001", Ok(1_767_225_600_000_001)),
        (r#""2026-01-01T00:00:00""#, Err(Reason::Content)),
        (r#""yesterday""#, Err(Reason::Content)),
        ("1767225600000001.5", Err(Reason::Content)),
        ("true", Err(Reason::Content)),
        ("0", Err(Reason::Clock)),
        (r#""1999-12-31T23:59:59Z""#, Err(Reason::Clock)),
    ] {
        assert_eq!(json(&reading(time)), [wanted], "{time}");
    }
    assert_eq!(json(&reading(&(NOW_US + 300_000_000).to_string())), [Ok(NOW_US + 300_000_000)]);
    assert_eq!(json(&reading(&(NOW_US + 300_000_001).to_string())), [Err(Reason::Clock)]);
    let is_ahead = |time_us: i64| {
        let payload = fleet(time_us);
        let found = readings(&domain("fleet"), &payload, NOW_US);
        found[0].as_ref().is_err_and(Rejected::is_ahead)
    };
    assert!(is_ahead(NOW_US + 300_000_001) && !is_ahead(NOW_US) && !is_ahead(0));
    assert_eq!(json(&reading("null")), [Ok(NOW_US)], "null is absent");
}

#[test]
fn json_numbers_fit_their_columns_or_are_refused() {
    let reading = |occupied: &str| {
        outcomes("parking", format!(r#"{{"time":{NOW_US},"occupied_spaces":{occupied}}}"#).as_bytes())
    };
    for good in ["7", "7.0", "-3", "2147483647", "7e2"] {
        assert_eq!(reading(good), [Ok(NOW_US)], "{good}");
    }
    for bad in ["7.5", "2147483648", "1e300", "\"7\"", "true", "[7]", "null"] {
        assert_eq!(reading(bad), [Err(Reason::Content)], "{bad}");
    }
}

#[test]
fn text_that_is_no_reading_is_content() {
    let deep = "[".repeat(100_000);
    for bad in ["", " ", "17", "\"x\"", "{", "[]", "[1", "nonsense", "{} {}", &deep, "\u{feff}{}"] {
        let found = json(bad);
        assert!(
            found.iter().all(|reading| *reading == Err(Reason::Content)) && !found.is_empty(),
            "{bad:.20}"
        );
    }
    assert_eq!(outcomes("fleet", &[0xff, 0xfe]), [Err(Reason::Content)]);
    assert_eq!(outcomes("fleet", &[0xc3]), [Err(Reason::Content)]);
}

#[test]
fn rejection_says_which_field_and_what_was_wanted() {
    let payload = br#"{"time":"2026-01-01T00:00:00Z","latitude":"north","longitude":2}"#;
    let found = readings(&domain("fleet"), payload, NOW_US);
    assert_eq!(found[0].as_ref().unwrap_err().detail, "field `latitude` is a text, wanted double");
}

#[test]
fn reading_that_comes_again_keeps_its_number_and_is_judged_by_the_clock_of_the_replay() {
    let again = |payload: &str, judged_at_us| {
        let judged = Judged { received_at_us: NOW_US, judged_at_us, first_index: 3 };
        let found = readings_again(&domain("fleet"), payload.as_bytes(), judged);
        let outcome = |reading: Result<Reading<'_>, Rejected<'_>>| match reading {
            Ok(reading) => (reading.index, Ok(reading.time_us)),
            Err(rejected) => (rejected.index, Err(rejected.reason)),
        };
        found.into_iter().map(outcome).collect::<Vec<_>>()
    };
    // Without a time of its own it has the one that it would have had the first time.
    let untimed = r#"{"latitude":1,"longitude":2}"#;
    assert_eq!(again(untimed, NOW_US), [(3, Ok(NOW_US + 3))]);
    let ahead_us = NOW_US + 3_600_000_000;
    let ahead = format!(r#"[{{"time":{ahead_us},"latitude":1,"longitude":2}},7]"#);
    assert_eq!(again(&ahead, NOW_US), [(3, Err(Reason::Clock)), (4, Err(Reason::Content))]);
    assert_eq!(again(&ahead, ahead_us), [(3, Ok(ahead_us)), (4, Err(Reason::Content))]);
}

proptest! {
    /// What the check lets through, the decoder takes: otherwise one payload could spoil a whole batch.
    #[test]
    fn whatever_the_check_lets_through_the_decoder_takes(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut payload = [fleet(NOW_US - 1), fleet(NOW_US)].concat();
        for (at, value) in &changes {
            let at = at.index(payload.len());
            payload[at] = *value;
        }
        if !whole {
            payload.truncate(cut.index(payload.len()) + 1);
        }
        let domain = domain("fleet");
        let mut builder = Builder::new(domain.clone());
        let mut good = 0;
        for reading in readings(&domain, &payload, NOW_US).into_iter().flatten() {
            builder.push(Origin { tenant: "t", device: "d", received_at_us: NOW_US }, &reading);
            good += 1;
        }
        prop_assert_eq!(builder.finish().unwrap().num_rows(), good);
    }

    #[test]
    fn any_bytes_are_readings_or_rejections_that_cover_them(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        for name in ["fleet", "device_health"] {
            let domain = domain(name);
            prop_assert!(!readings(&domain, &payload, NOW_US).is_empty() || payload.first() == Some(&0xc3));
        }
    }
}
