//! An electricity meter, read through its customer port.

use embassy_time::{Duration, Instant};
use zeugma_schemas::domains::Energy;

use super::telegram::Collector;
use crate::{
    clock::{Clock, Moment},
    schedule::beat_after,
    sensor::{Missing, Sensor},
    serial::Serial,
};

/// The meter's winter time is ahead of UTC by this, where its telegrams are sent: Belgium, the Netherlands.
pub const WINTER_OFFSET_S: i64 = 3_600;

/// A meter whose telegrams come over `P`.
pub struct Meter<'c, P> {
    port: P,
    collector: &'c mut Collector,
    /// Set by the meter's own clock, where there is no better one.
    clock: Option<&'c Clock>,
    report_every: Duration,
    next_report: Option<Instant>,
    newest: Option<Energy>,
}

impl<'c, P: Serial> Meter<'c, P> {
    /// Reports the newest telegram every `report_every`; sets `clock` by the meter's time, if it is given.
    pub fn new(
        port: P,
        collector: &'c mut Collector,
        clock: Option<&'c Clock>,
        report_every: Duration,
    ) -> Self {
        Meter { port, collector, clock, report_every, next_report: None, newest: None }
    }

    fn listen(&mut self, now: &Moment) {
        while let Some(byte) = self.port.next() {
            if self.collector.push(byte) {
                self.hear(now);
            }
        }
    }

    fn hear(&mut self, now: &Moment) {
        let Some(told) = self.collector.read() else { return };
        self.newest = Some(told.energy);
        if let (Some(clock), Some((local_s, is_summer))) = (self.clock, told.local_time) {
            let offset_s = WINTER_OFFSET_S + if is_summer { 3_600 } else { 0 };
            clock.set(now.at, (local_s - offset_s) * 1_000_000);
        }
    }
}

impl<P: Serial> Sensor for Meter<'_, P> {
    type Reading = Energy;

    fn sample(&mut self, now: &Moment) -> Result<Option<Energy>, Missing> {
        self.listen(now);
        // The first telegram is reported as it comes, the others at equal distances from it.
        let due = match self.next_report {
            Some(due) => due,
            None if self.newest.is_some() => now.at,
            None => return Ok(None),
        };
        if now.at < due {
            return Ok(None);
        }
        self.next_report = Some(beat_after(due, self.report_every, now.at).0);
        self.newest.take().map(Some).ok_or(Missing::NoValue)
    }
}
