//! The tally: what acceptance counts of one block, without a lock or an allocation for each reading.

use hashbrown::HashMap;
use prometheus_client::metrics::counter::Counter;
use zeugma_lake::Position;
use zeugma_schemas::dead_letter;

use super::{Metrics, of};

/// Pairs of domain and tenant that a tally remembers between blocks; beyond it, it begins anew. A country
/// has 332 tenants with five domains each.
const PLACES_MAX: usize = 10_000;

/// Counts by domain and tenant, told to the [`Metrics`] once for each block.
#[derive(Debug, Default)]
pub struct Tally {
    places: HashMap<String, HashMap<String, usize>>,
    counts: Vec<Counts>,
    /// The place of the last reading: the next is likely of the same.
    last: usize,
    touched: Vec<usize>,
}

/// What is counted of one tenant's readings of one domain.
#[derive(Debug)]
pub struct Counts {
    pub(super) domain: String,
    pub(super) tenant: String,
    pub(super) counters: Option<Counters>,
    is_touched: bool,
    /// Readings new and whole.
    pub accepted: u64,
    /// Readings delivered again.
    pub repeated: u64,
    /// Readings at or before their device's watermark.
    pub late: u64,
    /// Readings without a time of their own.
    pub untimed: u64,
    /// Readings with unknown fields.
    pub extra: u64,
    /// Readings whose time lies ahead of their arrival.
    pub ahead: u64,
    /// Readings and rejections in all.
    pub heard: u64,
    /// Rows for the tail, dead letters among them.
    pub(super) rows: u64,
    /// When the oldest of those rows, or late readings, came.
    pub(super) first_us: i64,
    pub(super) last: Position,
}

/// The counters of a domain, so that they need not be looked up again.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    pub accepted: Counter,
    pub repeated: Counter,
    pub late: Counter,
    pub untimed: Counter,
    pub extra: Counter,
    pub visible: Counter,
}

impl Counts {
    fn new(domain: &str, tenant: &str) -> Counts {
        Counts {
            domain: domain.to_owned(),
            tenant: tenant.to_owned(),
            counters: None,
            is_touched: false,
            accepted: 0,
            repeated: 0,
            late: 0,
            untimed: 0,
            extra: 0,
            ahead: 0,
            heard: 0,
            rows: 0,
            first_us: i64::MAX,
            last: 0,
        }
    }

    /// A row for the tail, which came then.
    pub fn row(&mut self, position: Position, received_at_us: i64) {
        self.rows += 1;
        self.first_us = self.first_us.min(received_at_us);
        self.last = self.last.max(position);
    }

    /// A reading that must be looked up, which came then.
    pub fn wait(&mut self, received_at_us: i64) {
        self.late += 1;
        self.first_us = self.first_us.min(received_at_us);
    }

    fn clear(&mut self) {
        let (domain, tenant) = (std::mem::take(&mut self.domain), std::mem::take(&mut self.tenant));
        *self = Counts { domain, tenant, counters: self.counters.take(), ..Counts::new("", "") };
    }
}

impl Tally {
    /// The counts of a tenant's readings of a domain.
    pub fn of(&mut self, domain: &str, tenant: &str) -> &mut Counts {
        let same = self.counts.get(self.last).filter(|last| last.domain == domain && last.tenant == tenant);
        let place = match same {
            Some(_) => self.last,
            None => self.place(domain, tenant),
        };
        self.last = place;
        let counts = &mut self.counts[place];
        if !counts.is_touched {
            counts.is_touched = true;
            self.touched.push(place);
        }
        counts
    }

    fn place(&mut self, domain: &str, tenant: &str) -> usize {
        if let Some(place) = self.places.get(domain).and_then(|tenants| tenants.get(tenant)) {
            return *place;
        }
        let place = self.counts.len();
        self.counts.push(Counts::new(domain, tenant));
        self.places.entry_ref(domain).or_default().insert(tenant.to_owned(), place);
        place
    }

    /// Hands out what was counted since the last time, place by place, and counts from zero.
    pub(super) fn drain(&mut self, metrics: &Metrics, mut each: impl FnMut(&Counts, &Counters)) {
        for place in std::mem::take(&mut self.touched) {
            let counts = &mut self.counts[place];
            let counters = counts.counters.take().unwrap_or_else(|| metrics.counters(&counts.domain));
            each(counts, &counters);
            counts.counters = Some(counters);
            counts.clear();
        }
        if self.counts.len() > PLACES_MAX {
            *self = Tally::default();
        }
    }
}

impl Metrics {
    fn counters(&self, domain: &str) -> Counters {
        let label = of(domain);
        if domain == dead_letter::TABLE {
            // Its rows are visible; as readings they were never accepted.
            let visible = self.visible.get_or_create_owned(&label);
            return Counters { visible, ..Counters::default() };
        }
        Counters {
            accepted: self.accepted.get_or_create_owned(&label),
            repeated: self.repeated.get_or_create_owned(&label),
            late: self.late.get_or_create_owned(&label),
            untimed: self.untimed.get_or_create_owned(&label),
            extra: self.extra.get_or_create_owned(&label),
            visible: self.visible.get_or_create_owned(&label),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_once_and_by_place() {
        let (metrics, mut tally) = (Metrics::default(), Tally::default());
        for tenant in ["lamia", "szeged", "lamia", "lamia"] {
            let counts = tally.of("fleet", tenant);
            counts.accepted += 1;
            counts.row(7, 100);
        }
        tally.of("parking", "lamia").wait(50);
        let mut told = Vec::new();
        tally.drain(&metrics, |counts, _| {
            told.push((counts.domain.clone(), counts.tenant.clone(), counts.accepted, counts.late));
        });
        let expected = [("fleet", "lamia", 3, 0), ("fleet", "szeged", 1, 0), ("parking", "lamia", 0, 1)];
        assert_eq!(told, expected.map(|(domain, tenant, a, l)| (domain.into(), tenant.into(), a, l)));
        tally.drain(&metrics, |counts, _| panic!("told twice: {counts:?}"));
        tally.of("fleet", "szeged").repeated += 1;
        tally.drain(&metrics, |counts, _| assert_eq!((counts.accepted, counts.repeated), (0, 1)));
    }

    #[test]
    fn tally_forgets_when_strangers_have_filled_it() {
        let (metrics, mut tally) = (Metrics::default(), Tally::default());
        for number in 0..=PLACES_MAX {
            tally.of("fleet", &number.to_string()).accepted += 1;
        }
        let mut accepted = 0;
        tally.drain(&metrics, |counts, _| accepted += counts.accepted);
        assert_eq!((accepted, tally.counts.len()), (PLACES_MAX as u64 + 1, 0));
    }
}
