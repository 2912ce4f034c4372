//! What a device must not forget over a loss of power: how often it started, where each series ends, and what its
//! sensor has counted.

use crate::record::take;

/// The ends of the two series, by channel, and three counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// How often the device was started, this time included.
    pub boot: u32,
    /// The number of the next reading.
    pub seq: [u32; 2],
    /// The time of the last reading, in microseconds since 1970 UTC.
    pub last_us: [i64; 2],
    /// How many readings were dropped, ever.
    pub dropped: u32,
    /// What the sensor had counted at its last reading, if it counts.
    pub counter: Option<u64>,
}

/// What [`Memory::to_bytes`] gives.
pub const MEMORY_BYTES: usize = 40;

impl Memory {
    /// As it stands on flash: little-endian, in the order of the fields; the highest number stands for no counter.
    pub fn to_bytes(&self) -> [u8; MEMORY_BYTES] {
        let mut bytes = [0; MEMORY_BYTES];
        let [seq, health_seq] = self.seq.map(u32::to_le_bytes);
        let [last, health_last] = self.last_us.map(i64::to_le_bytes);
        let (boot, dropped) = (self.boot.to_le_bytes(), self.dropped.to_le_bytes());
        let counter = self.counter.unwrap_or(u64::MAX).to_le_bytes();
        let parts: [&[u8]; 7] = [&boot, &seq, &health_seq, &last, &health_last, &dropped, &counter];
        let mut rest = &mut bytes[..];
        for part in parts {
            let (place, behind) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = behind;
        }
        bytes
    }

    /// The other way round.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Memory> {
        let rest = &mut bytes;
        let boot = u32::from_le_bytes(take(rest)?);
        let seq = [u32::from_le_bytes(take(rest)?), u32::from_le_bytes(take(rest)?)];
        let last_us = [i64::from_le_bytes(take(rest)?), i64::from_le_bytes(take(rest)?)];
        let dropped = u32::from_le_bytes(take(rest)?);
        let counter = Some(u64::from_le_bytes(take(rest)?)).filter(|counter| *counter != u64::MAX);
        Some(Memory { boot, seq, last_us, dropped, counter })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_it_was_written() {
        for counter in [None, Some(0), Some(1 << 60)] {
            let memory =
                Memory { boot: 7, seq: [1_000_000, 3], last_us: [i64::MAX, -1], dropped: u32::MAX, counter };
            assert_eq!(Memory::from_bytes(&memory.to_bytes()), Some(memory));
            assert_eq!(Memory::from_bytes(&memory.to_bytes()[1..]), None);
        }
    }
}
