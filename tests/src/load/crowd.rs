//! The crowd: which reading of which device a connection publishes as its k-th, as pure arithmetic.
//!
//! A device belongs to one connection, and a connection goes round its devices. So two numbers of a
//! connection, how many were sent and how many acknowledged, say the same of each of its devices, and what
//! a reading holds follows from its device and `seq` alone: [`CHECK_SQL`] finds it again in a table.

use std::io::Write;

use zeugma_schemas::domains::{Fleet, Measurement};

/// 2025-01-01T00:00:00Z: the reading with `seq` 0, if there were one.
const TIME_US_FIRST: i64 = 1_735_689_600_000_000;

/// A device takes one reading a second of its own time, however fast it publishes them.
const TIME_STEP_US: i64 = 1_000_000;

/// Room for one payload: the longest JSON reading has about 200 bytes.
pub(super) const PAYLOAD_BYTES_MAX: usize = 512;

/// Every device of every tenant: how many rows there are, how many times, the lowest and the highest
/// `seq`, and how many rows hold something else than what was sent. `{shift}` and `{tenant}`
/// are filled in. For readings sent as Avro; text would round positions in another way.
pub const CHECK_SQL: &str = "SELECT device, count(*), count(DISTINCT time), min(seq), max(seq), \
     sum(CASE WHEN CAST(time AS BIGINT) = 1735689600000000 + seq * 1000000 \
         AND speed_kmh = (seq * 31 + number) % 251 \
         AND latitude = 38 + ((seq * 7919 + number * 104729 + {shift}) % 100000) / 100000.0E0 \
         AND longitude = 22 + ((seq * 6151 + number * 98317 + {shift}) % 100000) / 100000.0E0 \
         AND ignition AND satellites = 9 AND altitude_m IS NULL AND extra IS NULL THEN 0 ELSE 1 END) \
     FROM (SELECT *, CAST(substr(device, 5) AS BIGINT) AS number FROM fleet WHERE tenant = '{tenant}') \
     GROUP BY device";

/// How payloads look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Avro single-object encoding, 56 to 58 bytes.
    Avro,
    /// One JSON object, about 170 bytes.
    Json,
}

/// Devices, their tenants and their connections.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// How many connections share the devices.
    pub connections: u64,
    /// How many devices there are, at least as many as connections.
    pub devices: u64,
    /// How many tenants share the devices.
    pub tenants: u64,
    /// What positions depend on.
    pub seed: u64,
}

/// One reading, by what identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Number of its device, from 0.
    pub device: u64,
    /// Its number on the device, from 1.
    pub seq: i64,
}

impl Crowd {
    /// The k-th reading (from 0) of a connection.
    pub fn reading(&self, connection: u64, k: u64) -> Reading {
        let devices = self.devices_of(connection);
        Reading { device: connection + (k % devices) * self.connections, seq: (k / devices) as i64 + 1 }
    }

    /// How many readings of a device are among the first `count` of its connection.
    pub fn of_device(&self, device: u64, count: u64) -> u64 {
        let devices = self.devices_of(self.connection_of(device));
        let place = device / self.connections;
        count / devices + u64::from(count % devices > place)
    }

    /// The connection that a device belongs to.
    pub fn connection_of(&self, device: u64) -> u64 {
        device % self.connections
    }

    /// The name of a device's tenant.
    pub fn tenant_of(&self, device: u64) -> String {
        format!("town-{}", device % self.tenants)
    }

    fn devices_of(&self, connection: u64) -> u64 {
        (self.devices - connection).div_ceil(self.connections)
    }

    /// What positions are shifted by; small, so that SQL computes the same.
    pub fn shift(&self) -> i64 {
        (self.seed % 100_000) as i64
    }

    /// The topic of a device.
    pub(super) fn topic(&self, device: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"city/v1/town-");
        digits(device % self.tenants, out);
        out.extend_from_slice(b"/fleet/bus-");
        digits(device, out);
    }

    /// The payload of a reading.
    pub(super) fn payload(&self, format: Format, reading: Reading, out: &mut Vec<u8>) {
        let time_us = TIME_US_FIRST + reading.seq * TIME_STEP_US;
        let fleet = self.fleet(reading);
        match format {
            Format::Avro => {
                let mut buffer = [0; PAYLOAD_BYTES_MAX];
                let len = fleet.encode_avro(time_us, reading.seq, &mut buffer).expect("a short reading");
                out.extend_from_slice(&buffer[..len]);
            }
            // The device's own writer formats floats, which costs more than all the rest of us together.
            Format::Json => write!(
                out,
                "{{\"time\":{time_us},\"seq\":{},\"latitude\":38.{:05},\"longitude\":22.{:05},\"speed_kmh\":{},\
                 \"ignition\":true,\"odometer_m\":{},\"satellites\":9,\"heading_deg\":{},\"hdop\":0.9}}",
                reading.seq,
                self.part(reading, 7_919, 104_729),
                self.part(reading, 6_151, 98_317),
                speed(reading),
                reading.seq * 10,
                reading.seq % 360,
            )
            .expect("memory"),
        }
    }

    fn fleet(&self, reading: Reading) -> Fleet {
        Fleet {
            latitude: 38.0 + self.part(reading, 7_919, 104_729) as f64 / 100_000.0,
            longitude: 22.0 + self.part(reading, 6_151, 98_317) as f64 / 100_000.0,
            speed_kmh: Some(speed(reading) as f64),
            ignition: Some(true),
            satellites: Some(9),
            ..Fleet::default()
        }
    }

    /// A number below 100,000 that jumps from reading to reading.
    fn part(&self, reading: Reading, by_seq: i64, by_device: i64) -> i64 {
        (reading.seq * by_seq + reading.device as i64 * by_device + self.shift()) % 100_000
    }
}

fn speed(reading: Reading) -> i64 {
    (reading.seq * 31 + reading.device as i64) % 251
}

fn digits(mut number: u64, out: &mut Vec<u8>) {
    let (mut text, mut at) = ([0; 20], 20);
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break out.extend_from_slice(&text[at..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_devices_add_up_to_those_of_their_connection() {
        let crowd = Crowd { connections: 3, devices: 8, tenants: 2, seed: 1 };
        for count in [0, 1, 7, 100] {
            for connection in 0..3 {
                let mine = (0..8).filter(|device| crowd.connection_of(*device) == connection);
                let sum: u64 = mine.map(|device| crowd.of_device(device, count)).sum();
                assert_eq!(sum, count, "connection {connection}");
            }
        }
    }

    #[test]
    fn readings_of_a_device_are_numbered_from_one_without_a_gap() {
        let crowd = Crowd { connections: 3, devices: 8, tenants: 2, seed: 1 };
        let mut next = [1; 8];
        for k in 0..50 {
            let reading = crowd.reading(1, k);
            assert_eq!(reading.seq, next[reading.device as usize]);
            next[reading.device as usize] += 1;
            assert_eq!(crowd.of_device(reading.device, k + 1), reading.seq as u64);
        }
    }
}
