//! The time of a row: text in the file's own format and zone, read as microseconds since 1970 in UTC.

use chrono::{
    DateTime, FixedOffset, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc,
    format::{self, Item, Parsed, StrftimeItems},
};
use chrono_tz::Tz;

/// How far back to look for the last local time before a gap: none was ever longer than a day.
const GAP_STEPS_MAX: i32 = 26 * 4;
const GAP_STEP: TimeDelta = TimeDelta::minutes(15);

/// Reads the times of one file.
#[derive(Debug, Clone)]
pub struct Clock {
    format: Format,
    zone: Option<Tz>,
}

#[derive(Debug, Clone)]
enum Format {
    Rfc3339,
    /// A count since 1970; the number is how many decimal digits of a unit make a microsecond.
    Unix(u32),
    Pattern(Vec<Item<'static>>),
}

impl Clock {
    /// A clock for a `--time-format` and a `--time-zone`; the error says what is wrong with them.
    pub fn new(format: &str, zone: Option<&str>) -> Result<Clock, String> {
        let zone = zone.map(parse_zone).transpose()?;
        let format = match format {
            "rfc3339" => Format::Rfc3339,
            "unix" => Format::Unix(6),
            "unix_ms" => Format::Unix(3),
            "unix_us" => Format::Unix(0),
            pattern => Format::Pattern(parse_pattern(pattern, zone.is_some())?),
        };
        Ok(Clock { format, zone })
    }

    /// Whether times without an offset can be read.
    pub fn has_zone(&self) -> bool {
        self.zone.is_some()
    }

    /// Microseconds since 1970 in UTC, finer fractions cut; `None` where the text is no time of this format.
    pub fn read(&self, text: &str) -> Option<i64> {
        match &self.format {
            Format::Rfc3339 => match DateTime::parse_from_rfc3339(text) {
                Ok(time) => Some(time.timestamp_micros()),
                Err(_) => self.read_local(parse_iso_local(text)?),
            },
            Format::Unix(digits) => parse_count(text, *digits),
            Format::Pattern(items) => self.read_pattern(text, items),
        }
    }

    /// Microseconds in UTC of a local time; `None` without a zone.
    pub fn read_local(&self, local: NaiveDateTime) -> Option<i64> {
        to_utc(local, self.zone?).map(|time| time.timestamp_micros())
    }

    fn read_pattern(&self, text: &str, items: &[Item<'static>]) -> Option<i64> {
        let mut parsed = Parsed::new();
        format::parse(&mut parsed, text, items.iter()).ok()?;
        if parsed.offset().is_some() {
            return Some(parsed.to_datetime().ok()?.timestamp_micros());
        }
        if parsed.timestamp().is_some() {
            return Some(parsed.to_datetime_with_timezone(&Utc).ok()?.timestamp_micros());
        }
        let date = parsed.to_naive_date().ok()?;
        // A pattern of a day alone means its midnight.
        let time = match parsed.hour_div_12() {
            None if parsed.minute().is_none() => NaiveTime::MIN,
            _ => parsed.to_naive_time().ok()?,
        };
        self.read_local(date.and_time(time))
    }
}

fn parse_zone(name: &str) -> Result<Tz, String> {
    name.parse()
        .map_err(|_| format!("--time-zone {name}: no IANA time zone (as Europe/Athens) has this name"))
}

fn parse_pattern(pattern: &str, zoned: bool) -> Result<Vec<Item<'static>>, String> {
    let items = StrftimeItems::new(pattern).parse_to_owned().ok().filter(|_| pattern.contains('%'));
    let items = items.ok_or_else(|| {
        format!("--time-format {pattern}: give rfc3339, unix, unix_ms, unix_us or a strftime pattern")
    })?;
    if !zoned && !tells_instant(&items) {
        return Err(format!(
            "--time-format {pattern} has no offset (%z): add --time-zone, as Europe/Athens or UTC"
        ));
    }
    Ok(items)
}

/// Whether texts of this pattern say which instant they mean: then two offsets make two texts.
fn tells_instant(items: &[Item<'static>]) -> bool {
    let local = DateTime::UNIX_EPOCH.naive_utc();
    let text = |offset_s| {
        let offset = FixedOffset::east_opt(offset_s).expect("less than a day");
        let time = offset.from_local_datetime(&local).single().expect("a fixed offset has no gaps");
        time.format_with_items(items.iter()).to_string()
    };
    text(0) != text(3600)
}

fn parse_iso_local(text: &str) -> Option<NaiveDateTime> {
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .iter()
        .find_map(|pattern| NaiveDateTime::parse_from_str(text, pattern).ok())
}

/// A decimal count of units, exact to the microsecond: floats would round a `unix` time of today.
fn parse_count(text: &str, digits: u32) -> Option<i64> {
    let (sign, digits_text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (whole, fraction) = digits_text.split_once('.').unwrap_or((digits_text, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let kept: String = fraction.chars().chain(std::iter::repeat('0')).take(digits as usize).collect();
    let units: i64 = whole.parse::<i64>().ok()?.checked_mul(10i64.pow(digits))?;
    let part: i64 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    units.checked_add(part)?.checked_mul(sign)
}

/// The instant of a local time. Of an hour that comes twice the first is meant; a time that the clocks
/// skipped is read with the offset from before the jump, so it lands as far after the jump as it claims.
fn to_utc(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    if let Some(time) = zone.from_local_datetime(&local).earliest() {
        return Some(time.to_utc());
    }
    (1..=GAP_STEPS_MAX).find_map(|steps| {
        let back = GAP_STEP * steps;
        let before = zone.from_local_datetime(&local.checked_sub_signed(back)?).latest()?;
        before.to_utc().checked_add_signed(back)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn london(text: &str) -> String {
        let clock = Clock::new("%Y-%m-%d %H:%M:%S", Some("Europe/London")).expect("valid");
        utc(clock.read(text).expect("a time"))
    }

    fn utc(time_us: i64) -> String {
        DateTime::from_timestamp_micros(time_us).expect("in range").format("%FT%T%.fZ").to_string()
    }

    #[test]
    fn local_time_takes_the_offset_of_its_season() {
        assert_eq!(london("2015-03-01 00:04:03"), "2015-03-01T00:04:03Z");
        assert_eq!(london("2015-05-01 00:04:58"), "2015-04-30T23:04:58Z");
    }

    #[test]
    fn repeated_hour_means_its_first_pass() {
        assert_eq!(london("2015-10-25 00:59:59"), "2015-10-24T23:59:59Z");
        assert_eq!(london("2015-10-25 01:30:00"), "2015-10-25T00:30:00Z");
        assert_eq!(london("2015-10-25 02:00:00"), "2015-10-25T02:00:00Z");
    }

    #[test]
    fn skipped_hour_is_read_with_the_offset_before_the_jump() {
        assert_eq!(london("2015-03-29 00:59:59"), "2015-03-29T00:59:59Z");
        assert_eq!(london("2015-03-29 01:00:00"), "2015-03-29T01:00:00Z");
        assert_eq!(london("2015-03-29 01:30:00"), "2015-03-29T01:30:00Z");
        assert_eq!(london("2015-03-29 02:00:00"), "2015-03-29T01:00:00Z");
        let apia = Clock::new("%Y-%m-%d", Some("Pacific/Apia")).expect("valid");
        // Samoa had no 30 December 2011: it went from UTC-10 to UTC+14 at the end of the 29th.
        assert_eq!(apia.read("2011-12-30").map(utc).as_deref(), Some("2011-12-30T10:00:00Z"));
    }

    #[test]
    fn rfc_3339_needs_its_offset_or_a_zone() {
        let bare = Clock::new("rfc3339", None).expect("valid");
        assert_eq!(bare.read("2016-11-24T00:00:51-06:00").map(utc).as_deref(), Some("2016-11-24T06:00:51Z"));
        assert_eq!(
            bare.read("2016-11-24T00:00:51.1234569Z").map(utc).as_deref(),
            Some("2016-11-24T00:00:51.123456Z")
        );
        assert_eq!(bare.read("2016-11-24T00:00:51"), None);
        let zoned = Clock::new("rfc3339", Some("America/Chicago")).expect("valid");
        assert_eq!(zoned.read("2016-11-24T00:00:51").map(utc).as_deref(), Some("2016-11-24T06:00:51Z"));
        assert_eq!(zoned.read("2016-11-24T00:00:51Z").map(utc).as_deref(), Some("2016-11-24T00:00:51Z"));
    }

    #[test]
    fn counts_since_1970_are_exact() {
        let read = |format, text| Clock::new(format, None).expect("valid").read(text);
        assert_eq!(read("unix", "1479967251"), Some(1_479_967_251_000_000));
        assert_eq!(read("unix", "1479967251.1234567"), Some(1_479_967_251_123_456));
        assert_eq!(read("unix_ms", "1479967251123.5"), Some(1_479_967_251_123_500));
        assert_eq!(read("unix_us", "-1"), Some(-1));
        for bad in ["", "-", "1.", ".5", "1e9", "+1", "12x", "99999999999999999999"] {
            assert_eq!(read("unix", bad), None, "{bad}");
        }
    }

    #[test]
    fn pattern_with_offset_needs_no_zone_and_one_without_does() {
        let read = |format, text| Clock::new(format, None).expect("valid").read(text);
        assert_eq!(read("%d.%m.%Y %H:%M %z", "24.11.2016 01:00 +0100"), Some(1_479_945_600_000_000));
        assert_eq!(read("%s", "1479945600"), Some(1_479_945_600_000_000));
        assert!(Clock::new("%d.%m.%Y %H:%M", None).expect_err("no zone").contains("--time-zone"));
        assert!(Clock::new("%d.%m.%Y", Some("Europe/Nowhere")).is_err());
        assert!(Clock::new("iso", None).is_err());
        assert!(Clock::new("%Q", None).is_err());
    }

    #[test]
    fn text_of_another_format_is_no_time() {
        let clock = Clock::new("%Y-%m-%d %H:%M:%S", Some("UTC")).expect("valid");
        for bad in ["", "2015-13-01 00:00:00", "2015-03-01", "2015-03-01 00:00:00 x", "yesterday"] {
            assert_eq!(clock.read(bad), None, "{bad}");
        }
    }
}
