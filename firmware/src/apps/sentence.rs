//! Sentences of a satellite receiver (NMEA 0183): where it is, when, and by how many satellites.

use nmeasis::{
    message::{Message, gga::Gga, rmc::Rmc},
    parser::NmeaParser,
};

use super::telegram::days_since_1970;

/// Longest sentence: 82 characters by the standard, which receivers with many decimals exceed.
const SENTENCE_BYTES_MAX: usize = 128;

/// A knot.
const KMH_PER_KNOT: f64 = 1.852;

/// Where a receiver is, and how it moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    /// Degrees north, WGS 84.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Over ground.
    pub speed_kmh: f64,
    /// Where to, clockwise from north, 0 to 360.
    pub heading_deg: Option<f64>,
}

/// What a sentence says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Said {
    /// RMC.
    Fix {
        /// Where the receiver was.
        position: Position,
        /// And when, in microseconds since 1970 UTC.
        time_us: i64,
    },
    /// GGA: how many satellites are in use, where it has any.
    Satellites(Option<i32>),
}

/// Finds sentences in what comes over the wire.
#[derive(Default)]
pub struct Receiver {
    sentences: NmeaParser<SENTENCE_BYTES_MAX>,
}

impl Receiver {
    /// Takes one byte more; answers what the sentence says that it ends.
    pub fn hear(&mut self, byte: u8) -> Option<Said> {
        let mut said = None;
        self.sentences.buffer()[0] = byte;
        self.sentences.commit(1, |sentence| {
            said = match sentence.map(|sentence| sentence.message) {
                Ok(Message::Rmc(rmc)) => fix(&rmc),
                Ok(Message::Gga(gga)) => Some(Said::Satellites(satellites(&gga))),
                // Another sentence, a damaged one, or noise.
                _ => None,
            };
        });
        said
    }
}

/// The position of a sentence, if it has one.
fn fix(rmc: &Rmc<'_>) -> Option<Said> {
    if rmc.status != "A" {
        return None;
    }
    let position = Position {
        latitude: degrees(rmc.latitude, rmc.latitude_dir, ("N", "S"), 90.0)?,
        longitude: degrees(rmc.longitude, rmc.longitude_dir, ("E", "W"), 180.0)?,
        speed_kmh: decimal(rmc.speed)? * KMH_PER_KNOT,
        heading_deg: decimal(rmc.track_made).filter(|heading| *heading <= 360.0),
    };
    Some(Said::Fix { position, time_us: time_us(rmc.date, rmc.time)? })
}

fn satellites(gga: &Gga<'_>) -> Option<i32> {
    // Without a fix nothing is in use.
    (gga.fix_quality != "0").then(|| decimal(gga.satellites)).flatten().map(|count| count as i32)
}

/// Degrees and minutes (`ddmm.mmmm`), to the first side or the other.
fn degrees(text: &str, side: &str, (positive, negative): (&str, &str), max: f64) -> Option<f64> {
    let number = decimal(text)?;
    let whole = libm::trunc(number / 100.0);
    let degrees = whole + (number - whole * 100.0) / 60.0;
    let degrees = match side {
        side if side == positive => degrees,
        side if side == negative => -degrees,
        _ => return None,
    };
    (libm::fabs(degrees) <= max).then_some(degrees)
}

/// A date (`ddmmyy`) and a time of day (`hhmmss.sss`), in microseconds since 1970 UTC.
fn time_us(date: &str, time: &str) -> Option<i64> {
    let [day, month, year] = pairs(date)?;
    let [hours, minutes, _] = pairs(time)?;
    let seconds = decimal(time.get(4..)?)?;
    let is_possible =
        (1..=31).contains(&day) && (1..=12).contains(&month) && hours < 24 && minutes < 60 && seconds < 61.0;
    let minutes = (days_since_1970(2000 + year, month, day) * 24 + hours) * 60 + minutes;
    // Receivers tell milliseconds at best.
    is_possible.then_some(minutes * 60_000_000 + (seconds * 1_000.0) as i64 * 1_000)
}

/// Three numbers of two digits each.
fn pairs(text: &str) -> Option<[i64; 3]> {
    let pair = |at| text.get(at..at + 2).and_then(decimal).map(|number| number as i64);
    Some([pair(0)?, pair(2)?, pair(4)?])
}

/// A number without sign or exponent, which is all there is. Two integers that a double holds exactly are divided,
/// which rounds once: as exact as the library's reader of numbers, which takes 30 KB of flash.
fn decimal(text: &str) -> Option<f64> {
    let (mut digits, mut scale) = (None::<u64>, 1_u64);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    for (text, step) in [(whole, 1), (fraction, 10)] {
        for byte in text.bytes() {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            digits = Some(digits.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
            scale = scale.checked_mul(step)?;
        }
    }
    Some(digits? as f64 / scale as f64)
}
