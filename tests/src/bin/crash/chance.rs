//! Chance, from a seed: the same seed aims the same way.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// That of a part.
    pub fn of(seed: u64, part: u64) -> Chance {
        let mut chance = Chance(seed);
        let mixed = chance.next();
        Chance(mixed ^ part.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `from`, below `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from).max(1)
    }

    /// A time below this one.
    pub fn below(&mut self, time: std::time::Duration) -> std::time::Duration {
        std::time::Duration::from_micros(self.between(0, time.as_micros() as u64))
    }
}
