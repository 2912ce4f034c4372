//! The time of readings that were taken before the device knew the time.
//!
//! They carry ticks, which are microseconds since a start of the device. Once the time is known, one note on
//! flash, the anchor, says for each channel how far time is ahead of the ticks of that start: it gives all of
//! them their time at once, and the same time after any loss of power.

use crate::{
    record::{Offsets, Stamp},
    schedule::Channel,
};

/// What is known of this start and of the earlier one that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchors {
    /// This start's number.
    pub boot: u32,
    /// This start's offsets, once the time is known.
    pub now: Option<Offsets>,
    /// An earlier start, and its offsets if it ever knew the time.
    pub earlier: Option<(u32, Option<Offsets>)>,
}

/// What a reading's stamp becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixed {
    /// This: a time, or ticks that still have to wait.
    Stamp(Stamp),
    /// Nothing: the time of that start was never known, and will not be.
    Never,
    /// The anchor of this earlier start has to be looked for.
    Ask(u32),
}

impl Anchors {
    /// Of a device at its start number `boot`.
    pub const fn new(boot: u32) -> Anchors {
        Anchors { boot, now: None, earlier: None }
    }

    /// Gives `stamp` its time, as far as that is known.
    pub fn fix(&self, channel: Channel, stamp: Stamp) -> Fixed {
        let Stamp::Ticks { boot, us } = stamp else { return Fixed::Stamp(stamp) };
        let timed =
            |offsets: Offsets| Fixed::Stamp(Stamp::Time(us.saturating_add(offsets[channel as usize])));
        match (self.now, self.earlier) {
            (now, _) if boot == self.boot => now.map_or(Fixed::Stamp(stamp), timed),
            (_, Some((of, offsets))) if of == boot => offsets.map_or(Fixed::Never, timed),
            _ => Fixed::Ask(boot),
        }
    }
}
