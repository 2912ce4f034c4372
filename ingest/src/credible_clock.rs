//! Whether the clock of this machine can be believed; by it arrivals are dated and devices are judged.
//!
//! Two things speak against it. It lies before this program was built. Or the city contradicts it: in the
//! last minute at least [`DEVICES_MIN`] devices sent times more than five minutes ahead of it, and these
//! were more than half of the readings of more than half of the tenants heard - so neither one town with a
//! mistake in its firmware nor one device that floods can stop a country. While it is in doubt nothing is
//! acknowledged; [`crate::clock_keeper`] sees to that. Nothing here looks at a clock.

use std::{
    collections::HashSet,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

use hashbrown::HashMap;

use crate::metrics::lags::{OTHERS, TENANTS_MAX};

/// So many devices do not err alike by chance.
pub const DEVICES_MIN: usize = 20;

/// What was heard counts for one to two of these.
const HALF_US: i64 = 30_000_000;

/// A clock that moves this far between two looks was set.
const SET_US: i64 = 60_000_000;

/// Looks, a second apart, without anything to judge by, until the clock is believed until more is heard.
const QUIET_LOOKS_MAX: u32 = 60;

/// No clock is right that is before this: the year in which this program was last changed, or what whoever
/// builds packages says by `SOURCE_DATE_EPOCH`. The same source makes the same program on any day.
pub const BUILT_US: i64 = {
    let year_2026_s = 1_767_225_600;
    let packaged_s = match option_env!("SOURCE_DATE_EPOCH") {
        Some(text) => number(text),
        None => 0,
    };
    1_000_000 * if packaged_s > year_2026_s { packaged_s } else { year_2026_s }
};

/// Why the clock is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// It lies before [`BUILT_US`].
    BeforeBuild {
        /// What it says.
        now_us: i64,
    },
    /// Most readings of many devices lie ahead of it.
    ManyAhead {
        /// How many tenants say so.
        tenants: usize,
    },
}

/// The judgement, and what it rests on.
#[derive(Debug, Default)]
pub struct CredibleClock {
    trusted: bool,
    this: Heard,
    before: Heard,
    begun_us: i64,
    looked_us: Option<i64>,
    quiet_looks: u32,
    doubt: Option<Doubt>,
}

/// What was heard in half a window.
#[derive(Debug, Default)]
struct Heard {
    tenants: HashMap<String, Readings>,
    /// Devices ahead of us, at most [`DEVICES_MIN`].
    devices: HashSet<u64>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Readings {
    heard: u64,
    ahead: u64,
}

impl Readings {
    fn are_mostly_ahead(self) -> bool {
        2 * self.ahead > self.heard
    }
}

impl CredibleClock {
    /// Nothing is known yet.
    pub fn new() -> CredibleClock {
        CredibleClock::default()
    }

    /// The operator says that the clock is right.
    pub fn trust(&mut self) {
        self.trusted = true;
    }

    /// So many readings of a tenant were judged, and so many of them lie ahead of their arrival.
    pub fn hear(&mut self, tenant: &str, heard: u64, ahead: u64, now_us: i64) {
        if heard == 0 {
            return;
        }
        self.turn(now_us);
        let tenants = &mut self.this.tenants;
        let tenant =
            if tenants.contains_key(tenant) || tenants.len() < TENANTS_MAX { tenant } else { OTHERS };
        let readings = tenants.entry_ref(tenant).or_default();
        readings.heard += heard;
        readings.ahead += ahead;
    }

    /// One of those ahead was of this device.
    pub fn hear_ahead(&mut self, tenant: &str, device: &str) {
        if self.this.devices.len() < DEVICES_MIN {
            let mut hasher = DefaultHasher::new();
            (tenant, device).hash(&mut hasher);
            self.this.devices.insert(hasher.finish());
        }
    }

    /// What waits to be acknowledged was judged by the present clock.
    pub fn judge_waiting(&mut self, heard: u64, ahead: u64) {
        self.quiet_looks = if heard == 0 { self.quiet_looks + 1 } else { 0 };
        let fits = heard > 0 && !Readings { heard, ahead }.are_mostly_ahead();
        if fits || self.quiet_looks >= QUIET_LOOKS_MAX {
            self.forget();
        }
    }

    /// Why the clock is not believed at this moment, by itself; none where it is.
    pub fn look(&mut self, now_us: i64) -> Option<Doubt> {
        if self.trusted {
            return None;
        }
        let was_set =
            self.looked_us.is_some_and(|looked_us| now_us.saturating_sub(looked_us).abs() >= SET_US);
        self.looked_us = Some(now_us);
        if was_set {
            self.forget();
        }
        if now_us < BUILT_US {
            self.doubt = Some(Doubt::BeforeBuild { now_us });
        } else if !matches!(self.doubt, Some(Doubt::ManyAhead { .. })) {
            self.turn(now_us);
            self.doubt = self.contradicted();
        }
        self.doubt.clone()
    }

    fn contradicted(&self) -> Option<Doubt> {
        if self.this.devices.union(&self.before.devices).count() < DEVICES_MIN {
            return None;
        }
        let mut tenants = self.this.tenants.clone();
        for (tenant, readings) in &self.before.tenants {
            let sum = tenants.entry(tenant.clone()).or_default();
            sum.heard += readings.heard;
            sum.ahead += readings.ahead;
        }
        let ahead = tenants.values().filter(|readings| readings.are_mostly_ahead()).count();
        (2 * ahead > tenants.len()).then_some(Doubt::ManyAhead { tenants: ahead })
    }

    fn turn(&mut self, now_us: i64) {
        let halves = now_us.saturating_sub(self.begun_us) / HALF_US;
        if halves != 0 {
            let this = std::mem::take(&mut self.this);
            self.before = if halves == 1 { this } else { Heard::default() };
            self.begun_us = now_us;
        }
    }

    fn forget(&mut self) {
        (self.this, self.before, self.doubt) = Default::default();
        self.quiet_looks = 0;
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::BeforeBuild { now_us } => write!(
                f,
                "the clock of this machine says the year {}, before this program was built: nothing is \
                 acknowledged until it is set",
                year(*now_us)
            ),
            Doubt::ManyAhead { tenants } => write!(
                f,
                "most readings of many devices ({tenants} tenants) lie ahead of this machine's clock: nothing \
                 is acknowledged until it is set; if it is right, start again with --trust-clock"
            ),
        }
    }
}

/// The year of a time, as the mean year counts; close enough to tell 1970 from this one.
fn year(time_us: i64) -> i64 {
    1970 + time_us.div_euclid(31_556_952_000_000)
}

/// Seconds as a decimal text says, for a constant; 0 for anything else.
const fn number(text: &str) -> i64 {
    let (digits, mut at, mut value) = (text.as_bytes(), 0, 0);
    while at < digits.len() {
        if !digits[at].is_ascii_digit() || value > i64::MAX / 100 {
            return 0;
        }
        value = value * 10 + (digits[at] - b'0') as i64;
        at += 1;
    }
    // A century beyond the first: nothing that a package says.
    if value < 10_000_000_000 { value } else { 0 }
}

#[cfg(test)]
mod tests;
