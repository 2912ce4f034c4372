//! Devices that send what devices send, the bad habits included.

use zeugma_journal::{Batch, Payload, Record};

/// What one publish holds: readings of one device, or nonsense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// When it was received, microseconds since 1970.
    pub received_at_us: i64,
    /// Of which device; even ones report vehicles, often, odd ones links of buildings, seldom.
    pub device: usize,
    /// Time and value of each reading.
    pub readings: Vec<(i64, i64)>,
    /// Whether the payload is no reading at all.
    pub nonsense: bool,
}

/// How many devices there are.
pub const DEVICES: usize = 6;

/// The table that hears much; it is committed after the dead letters.
pub const OFTEN: &str = "fleet";

/// The table that hears little; it is committed before the dead letters.
pub const SELDOM: &str = "connectivity";

/// The table of a device's readings.
pub fn table(device: usize) -> &'static str {
    if device.is_multiple_of(2) { OFTEN } else { SELDOM }
}

impl Publish {
    /// Appends it to a batch of the journal, as the door does.
    pub fn push_to(&self, batch: &mut Batch) {
        let tenant = if self.device < DEVICES / 2 { "lamia" } else { "ostrava" };
        let topic = format!("city/v1/{tenant}/{}/d{}", table(self.device), self.device);
        let payload = self.payload();
        batch.push(&Record {
            tenant: None,
            topic: &topic,
            received_at_us: self.received_at_us,
            payload: Payload::Whole(payload.as_bytes()),
        });
    }

    fn payload(&self) -> String {
        if self.nonsense {
            return "nonsense".to_owned();
        }
        let reading = |(time_us, value): &(i64, i64)| match table(self.device) {
            OFTEN => {
                format!(r#"{{"time":{time_us},"latitude":38.5,"longitude":22.5,"odometer_m":{value}}}"#)
            }
            _ => format!(r#"{{"time":{time_us},"up":true,"rx_bytes":{value}}}"#),
        };
        format!("[{}]", self.readings.iter().map(reading).collect::<Vec<_>>().join(","))
    }
}

/// What devices will send next, and have sent.
#[derive(Debug)]
pub struct Devices {
    sent: Vec<Publish>,
    newest_us: [i64; DEVICES],
    value: i64,
}

impl Devices {
    /// Devices that begin at this time.
    pub fn new(now_us: i64) -> Devices {
        Devices { sent: Vec::new(), newest_us: [now_us - 3_600_000_000; DEVICES], value: 0 }
    }

    /// The next publish.
    pub fn next(&mut self, random: &mut fastrand::Rng, now_us: i64) -> Publish {
        // Links are silent most of the time.
        let device = if random.u8(..10) == 0 { 1 + 2 * random.usize(..3) } else { 2 * random.usize(..3) };
        let publish = match random.u8(..20) {
            0..3 if !self.sent.is_empty() => self.again(random, now_us),
            3..5 => self.late(device, random, now_us),
            5 if !self.sent.is_empty() => self.conflict(random, now_us),
            6 => Publish { received_at_us: now_us, device, readings: Vec::new(), nonsense: true },
            _ => self.new_readings(device, random, now_us),
        };
        self.sent.push(publish.clone());
        publish
    }

    fn new_readings(&mut self, device: usize, random: &mut fastrand::Rng, now_us: i64) -> Publish {
        let mut readings = Vec::new();
        for _ in 0..random.usize(1..4) {
            self.newest_us[device] += random.i64(1..5_000_000);
            self.value += 1;
            readings.push((self.newest_us[device], self.value));
        }
        Publish { received_at_us: now_us, device, readings, nonsense: false }
    }

    /// A time that lies behind, and that nobody may have reported yet.
    fn late(&mut self, device: usize, random: &mut fastrand::Rng, now_us: i64) -> Publish {
        self.value += 1;
        let time_us = self.newest_us[device] - random.i64(1..20_000_000);
        Publish { received_at_us: now_us, device, readings: vec![(time_us, self.value)], nonsense: false }
    }

    fn again(&mut self, random: &mut fastrand::Rng, now_us: i64) -> Publish {
        let publish = self.sent[random.usize(..self.sent.len())].clone();
        Publish { received_at_us: now_us, ..publish }
    }

    fn conflict(&mut self, random: &mut fastrand::Rng, now_us: i64) -> Publish {
        let mut publish = self.again(random, now_us);
        publish.readings.iter_mut().for_each(|(_, value)| *value += 1_000_000);
        publish
    }
}
