//! Lags of each tenant: how long an acknowledged reading waits to be seen, and a seen one to be in the lake.
//!
//! Pure bookkeeping: positions and times come in as arguments, and its size has a limit.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;
use zeugma_lake::Position;

use crate::blocks::WAITING_MAX;

/// Tenants that have lags of their own; a country of towns has a few hundred (332 are usual). All that come
/// later share the label [`OTHERS`]. Each costs three lines of `/metrics`, 240 KB in all, and at most
/// [`MARKS_MAX`] x 16 bytes a table: 4 MB with eight tables.
pub const TENANTS_MAX: usize = 1_000;

/// The label of tenants beyond [`TENANTS_MAX`]; no id has brackets.
pub const OTHERS: &str = "(others)";

/// The label of dead letters that belong to nobody.
pub const NOBODY: &str = "(nobody)";

/// Blocks whose acknowledgement is remembered until acceptance has them: more than may wait for it, and the
/// one that is being handed over, at 16 bytes each.
const BLOCKS_MAX: usize = WAITING_MAX + 2;

/// Marks of one tenant's uncommitted rows in one table: with [`MARK_US`] they reach over a minute, the usual
/// commit interval. Beyond it the newest mark takes up what follows, so that an age is overstated, never
/// understated.
const MARKS_MAX: usize = 32;

/// Rows that came within this time of each other share a mark.
const MARK_US: i64 = 2_000_000;

/// The longest wait is remembered for one to two of these, so that scrapes every 15 s do not miss it.
const PEAK_US: i64 = 30_000_000;

/// Waiting and uncommitted readings of all tenants.
#[derive(Debug, Default)]
pub struct Lags {
    tenants: HashMap<Arc<str>, Tenant>,
    /// What is seen and not committed, by table.
    uncommitted: HashMap<String, HashMap<Arc<str>, Vec<Mark>>>,
    /// The last position of blocks that acceptance does not have yet, and when they were acknowledged.
    acknowledged: VecDeque<(Position, i64)>,
}

#[derive(Debug, Default)]
struct Tenant {
    visible: u64,
    peak: Peak,
    /// Since when the oldest late reading waits to be looked up, and to be decided.
    waiting_us: Option<i64>,
    deciding_us: Option<i64>,
}

/// The longest of the last while.
#[derive(Debug, Default)]
struct Peak {
    begun_us: i64,
    longest_us: i64,
    longest_before_us: i64,
}

/// Rows through a position, of which the oldest was acknowledged then.
#[derive(Debug, Clone, Copy)]
struct Mark {
    through: Position,
    since_us: i64,
}

/// What one tenant waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// Whose.
    pub tenant: Arc<str>,
    /// Rows that became visible.
    pub visible: u64,
    /// The longest wait from acknowledgement to sight of the last half minute, or of what still waits.
    pub visible_lag_us: i64,
    /// Age of the oldest row that is not in the lake.
    pub uncommitted_us: i64,
}

impl Lags {
    /// A block through this position was acknowledged.
    pub fn acknowledged(&mut self, through: Position, now_us: i64) {
        if self.acknowledged.len() == BLOCKS_MAX {
            self.acknowledged.pop_front();
        }
        self.acknowledged.push_back((through, now_us));
    }

    /// When the first of the blocks through this position was acknowledged; none where an earlier process
    /// did it.
    pub fn acknowledged_at(&mut self, through: Position) -> Option<i64> {
        let mut first_us = None;
        while let Some((position, at_us)) = self.acknowledged.front().copied()
            && position <= through
        {
            first_us = first_us.or(Some(at_us));
            self.acknowledged.pop_front();
        }
        first_us
    }

    /// Rows of a tenant became visible; the oldest was acknowledged at `since_us`.
    pub fn visible(
        &mut self,
        table: &str,
        tenant: &str,
        rows: u64,
        through: Position,
        since_us: i64,
        now_us: i64,
    ) {
        let name = self.name(tenant);
        let known = self.tenants.entry(name.clone()).or_default();
        known.visible += rows;
        known.peak.add(now_us.saturating_sub(since_us), now_us);
        let marks = self.uncommitted.entry_ref(table).or_default().entry(name).or_default();
        mark(marks, Mark { through, since_us });
    }

    /// A late reading of a tenant waits for the lake since then.
    pub fn late(&mut self, tenant: &str, since_us: i64) {
        let name = self.name(tenant);
        let known = self.tenants.entry(name).or_default();
        known.waiting_us = oldest(known.waiting_us, Some(since_us));
    }

    /// Everything that waits is being looked up now, beside what was before.
    pub fn lookup_begins(&mut self) {
        for tenant in self.tenants.values_mut() {
            tenant.deciding_us = oldest(tenant.deciding_us, tenant.waiting_us.take());
        }
    }

    /// Everything that was being looked up is decided.
    pub fn decided(&mut self) {
        self.tenants.values_mut().for_each(|tenant| tenant.deciding_us = None);
    }

    /// The lake holds everything of a table through this position.
    pub fn committed(&mut self, table: &str, through: Position) {
        let Some(tenants) = self.uncommitted.get_mut(table) else { return };
        tenants.retain(|_, marks| {
            marks.retain(|mark| mark.through > through);
            !marks.is_empty()
        });
    }

    /// Since when the oldest late reading waits.
    pub fn undecided_since_us(&self) -> Option<i64> {
        self.tenants.values().filter_map(Tenant::undecided_since_us).min()
    }

    /// What each tenant waits for, by name.
    pub fn tenants(&self, now_us: i64) -> Vec<Lag> {
        let mut since: HashMap<&str, i64> = HashMap::new();
        for (tenant, marks) in self.uncommitted.values().flatten() {
            for mark in marks {
                let entry = since.entry(tenant).or_insert(mark.since_us);
                *entry = mark.since_us.min(*entry);
            }
        }
        let age = |since_us: i64| now_us.saturating_sub(since_us).max(0);
        let lag = |(tenant, known): (&Arc<str>, &Tenant)| Lag {
            tenant: tenant.clone(),
            visible: known.visible,
            visible_lag_us: known.peak.longest(now_us).max(known.undecided_since_us().map_or(0, age)),
            uncommitted_us: since.get(tenant.as_ref()).map_or(0, |since_us| age(*since_us)),
        };
        let mut lags: Vec<Lag> = self.tenants.iter().map(lag).collect();
        lags.sort_by(|one, other| one.tenant.cmp(&other.tenant));
        lags
    }

    /// A tenant's label.
    fn name(&self, tenant: &str) -> Arc<str> {
        match self.tenants.get_key_value(tenant) {
            Some((known, _)) => known.clone(),
            None if self.tenants.len() < TENANTS_MAX => tenant.into(),
            None => OTHERS.into(),
        }
    }
}

impl Tenant {
    fn undecided_since_us(&self) -> Option<i64> {
        oldest(self.waiting_us, self.deciding_us)
    }
}

impl Peak {
    fn add(&mut self, wait_us: i64, now_us: i64) {
        self.turn(now_us);
        self.longest_us = self.longest_us.max(wait_us);
    }

    fn turn(&mut self, now_us: i64) {
        let halves = now_us.saturating_sub(self.begun_us) / PEAK_US;
        if halves != 0 {
            // A clock that was set back begins anew as well.
            self.longest_before_us = if halves == 1 { self.longest_us } else { 0 };
            (self.longest_us, self.begun_us) = (0, now_us);
        }
    }

    fn longest(&self, now_us: i64) -> i64 {
        match now_us.saturating_sub(self.begun_us) / PEAK_US {
            0 => self.longest_us.max(self.longest_before_us),
            1 => self.longest_us,
            _ => 0,
        }
    }
}

fn oldest(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

fn mark(marks: &mut Vec<Mark>, new: Mark) {
    let full = marks.len() >= MARKS_MAX;
    match marks.last_mut() {
        Some(last) if full || new.since_us.saturating_sub(last.since_us) < MARK_US => {
            last.through = last.through.max(new.through);
            last.since_us = last.since_us.min(new.since_us);
        }
        _ => marks.push(new),
    }
}

#[cfg(test)]
mod tests;
