//! Telegrams of an electricity meter's customer port: DSMR 4 and 5 P1, which are IEC 62056-21 mode D.
//!
//! Source: Netbeheer Nederland, "P1 Companion Standard", 5.0.2, sections 6.2 (frame, CRC-16) and 6.12 (objects).
//! Older meters (DSMR 2 and 3) send no checksum; what they say could not be told from noise, and is not taken.

use dsmr5::{Line, OBIS, Readout, Tariff};
use zeugma_schemas::domains::Energy;

/// Longest telegram (P1, section 6.2).
const TELEGRAM_BYTES_MAX: usize = 2048;

/// Digits of the checksum behind the exclamation mark.
const CHECKSUM_DIGITS: usize = 4;

/// Finds telegrams in what comes over the wire.
pub struct Collector {
    telegram: Readout,
    len: usize,
    /// Bytes still to come behind the exclamation mark.
    ending: Option<usize>,
}

/// What one telegram says.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Told {
    /// Counters, power, voltages and currents.
    pub energy: Energy,
    /// The meter's local time, in seconds since 1970 as if it were UTC, and whether it is summer time.
    pub local_time: Option<(i64, bool)>,
}

impl Default for Collector {
    fn default() -> Self {
        Self::new()
    }
}

impl Collector {
    /// Waits for the first telegram.
    pub const fn new() -> Collector {
        Collector { telegram: Readout { buffer: [0; TELEGRAM_BYTES_MAX] }, len: 0, ending: None }
    }

    /// Takes one byte more; answers whether a telegram is complete, which [`Collector::read`] then reads.
    pub fn push(&mut self, byte: u8) -> bool {
        match byte {
            b'/' => self.begin(),
            // Longer than any telegram, or without a beginning: it is waited for the next one.
            _ if self.len == 0 || self.len == TELEGRAM_BYTES_MAX => self.len = 0,
            _ => self.put(byte),
        }
        match &mut self.ending {
            Some(1) => {
                self.ending = None;
                return true;
            }
            Some(left) => *left -= 1,
            None if byte == b'!' && self.len > 0 => self.ending = Some(CHECKSUM_DIGITS),
            None => {}
        }
        false
    }

    fn begin(&mut self) {
        self.telegram.buffer.fill(0);
        (self.len, self.ending) = (0, None);
        self.put(b'/');
    }

    fn put(&mut self, byte: u8) {
        self.telegram.buffer[self.len] = byte;
        self.len += 1;
    }

    /// What the telegram says, if its checksum is right and it is text; the next one may begin.
    pub fn read(&mut self) -> Option<Told> {
        self.len = 0;
        // The standard knows ASCII only; what is not could be cut in the middle of a character.
        if !self.telegram.buffer.is_ascii() {
            return None;
        }
        let telegram = self.telegram.to_telegram().ok()?;
        let mut told = Told::default();
        let mut net_w = (None, None);
        for object in telegram.objects().flatten() {
            note(&mut told, &mut net_w, &object);
        }
        if net_w != (None, None) {
            told.energy.active_power_w = Some(net_w.0.unwrap_or(0.0) - net_w.1.unwrap_or(0.0));
        }
        single_phase(&mut told.energy);
        Some(told)
    }
}

/// Notes one object: in kilowatts and kilowatt hours, and those of two tariffs added.
fn note(told: &mut Told, net_w: &mut (Option<f64>, Option<f64>), object: &OBIS<'_>) {
    let energy = &mut told.energy;
    let add = |sum: &mut Option<f64>, kilo: f64| *sum = Some(sum.unwrap_or(0.0) + kilo * 1_000.0);
    match object {
        OBIS::DateTime(local) => {
            let days = days_since_1970(2000 + i64::from(local.year), local.month.into(), local.day.into());
            let seconds =
                i64::from(local.hour) * 3_600 + i64::from(local.minute) * 60 + i64::from(local.second);
            told.local_time = Some((days * 86_400 + seconds, local.dst));
        }
        OBIS::MeterReadingTo(Tariff::Tariff1 | Tariff::Tariff2, kwh) => {
            add(&mut energy.energy_import_wh, kwh.into())
        }
        OBIS::MeterReadingBy(Tariff::Tariff1 | Tariff::Tariff2, kwh) => {
            add(&mut energy.energy_export_wh, kwh.into())
        }
        OBIS::PowerDelivered(kw) => net_w.0 = Some(f64::from(kw) * 1_000.0),
        OBIS::PowerReceived(kw) => net_w.1 = Some(f64::from(kw) * 1_000.0),
        OBIS::InstantaneousVoltage(line, volts) => {
            let place = match line {
                Line::Line1 => &mut energy.voltage_l1_v,
                Line::Line2 => &mut energy.voltage_l2_v,
                Line::Line3 => &mut energy.voltage_l3_v,
            };
            *place = Some(volts.into());
        }
        OBIS::InstantaneousCurrent(line, amperes) => {
            let place = match line {
                Line::Line1 => &mut energy.current_l1_a,
                Line::Line2 => &mut energy.current_l2_a,
                Line::Line3 => &mut energy.current_l3_a,
            };
            *place = Some(amperes.0 as f64);
        }
        _ => {}
    }
}

/// A meter that knows of one phase only is a single-phase meter, which has fields of its own.
fn single_phase(energy: &mut Energy) {
    let others = [energy.voltage_l2_v, energy.voltage_l3_v, energy.current_l2_a, energy.current_l3_a];
    if others == [None; 4] {
        energy.voltage_v = energy.voltage_l1_v.take();
        energy.current_a = energy.current_l1_a.take();
    }
}

/// Days since 1970-01-01 in the Gregorian calendar (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
pub(crate) fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}
