//! What must hold after whatever happened: every reading acknowledged is found once, and nothing that was
//! not sent.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ask::Asker,
    load::{Crowd, Report, crowd::CHECK_SQL},
};

/// Replay has been handed to acceptance when the server answers; deciding late readings takes longer.
const VISIBLE_MAX: Duration = Duration::from_secs(60);

/// What was not acknowledged may be found too; when no more comes for so long, all has come.
const QUIET: Duration = Duration::from_millis(1_500);

/// What was found, in readings; all but the first three must be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Found {
    /// Sent, at least in part.
    pub sent: u64,
    /// Acknowledged.
    pub acknowledged: u64,
    /// Rows found.
    pub found: u64,
    /// Acknowledged and not found, or followed by later ones of its device and not found.
    pub lost: u64,
    /// Found again.
    pub twice: u64,
    /// Found and never sent.
    pub strange: u64,
    /// Found with other values than were sent.
    pub changed: u64,
    /// Found among the dead letters.
    pub dead: u64,
}

impl Found {
    /// Whether everything is as it must be.
    pub fn is_good(&self) -> bool {
        let Found { lost, twice, strange, changed, dead, .. } = *self;
        lost + twice + strange + changed + dead == 0
    }

    /// Adds what another part found.
    pub fn add(&mut self, other: &Found) {
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.found += other.found;
        self.lost += other.lost;
        self.twice += other.twice;
        self.strange += other.strange;
        self.changed += other.changed;
        self.dead += other.dead;
    }
}

/// One device's rows.
struct Rows {
    rows: u64,
    times: u64,
    first: u64,
    last: u64,
    changed: u64,
}

/// Waits until all has become visible, then compares every device with what was sent.
pub fn check(asker: &Asker, crowd: &Crowd, report: &Report) -> anyhow::Result<Found> {
    wait_until_quiet(asker, report.acknowledged())?;
    let mut found = Found { sent: report.sent(), acknowledged: report.acknowledged(), ..Found::default() };
    found.found = asker.number("SELECT count(*) FROM fleet")?;
    found.dead = asker.number("SELECT count(*) FROM dead_letters")?;
    let mut seen = 0;
    for tenant in 0..crowd.tenants {
        let mut rows = rows_of(asker, crowd, &format!("town-{tenant}"))?;
        for device in (0..crowd.devices).filter(|device| device % crowd.tenants == tenant) {
            let rows = rows.remove(&format!("bus-{device}"));
            seen += rows.as_ref().map_or(0, |rows| rows.rows);
            compare(&mut found, crowd, report, device, rows);
        }
        found.strange += rows.values().map(|rows| rows.rows).sum::<u64>();
        seen += rows.values().map(|rows| rows.rows).sum::<u64>();
    }
    // Rows of a tenant that nobody knows.
    found.strange += found.found.abs_diff(seen);
    Ok(found)
}

/// The rows of a device are its first ones without a gap: a connection's readings are journaled in the
/// order in which they were sent.
fn compare(found: &mut Found, crowd: &Crowd, report: &Report, device: u64, rows: Option<Rows>) {
    let counts = report.counts[crowd.connection_of(device) as usize];
    let acknowledged = crowd.of_device(device, counts.acknowledged);
    let sent = crowd.of_device(device, counts.sent);
    let Some(rows) = rows else {
        found.lost += acknowledged;
        return;
    };
    let wanted = acknowledged.max(rows.last.min(sent));
    found.lost += wanted.saturating_sub(rows.times);
    found.twice += rows.rows - rows.times;
    found.strange += rows.last.saturating_sub(sent) + u64::from(rows.first == 0);
    found.changed += rows.changed;
}

fn rows_of(asker: &Asker, crowd: &Crowd, tenant: &str) -> anyhow::Result<BTreeMap<String, Rows>> {
    let sql = CHECK_SQL.replace("{shift}", &crowd.shift().to_string()).replace("{tenant}", tenant);
    let read = |row: Vec<Value>| {
        let number =
            |column: usize| row.get(column).and_then(Value::as_i64).map(|number| number.max(0) as u64);
        let device = row.first().and_then(Value::as_str)?.to_owned();
        let (rows, times) = (number(1)?, number(2)?);
        Some((device, Rows { rows, times, first: number(3)?, last: number(4)?, changed: number(5)? }))
    };
    let rows = asker.sql(&sql)?.into_iter().map(|row| read(row.clone()).with_context(|| format!("{row:?}")));
    rows.collect()
}

fn wait_until_quiet(asker: &Asker, acknowledged: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + VISIBLE_MAX;
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        let found = asker.number("SELECT count(*) FROM fleet")?;
        if found != seen {
            (seen, since) = (found, Instant::now());
        }
        let undecided = asker.metric("zeugma_undecided ")?;
        let quiet = since.elapsed() > QUIET && undecided == 0.0;
        // What is missing even then is counted by the comparison.
        if quiet && (found >= acknowledged || Instant::now() > deadline) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline + VISIBLE_MAX, "{undecided} readings stay undecided");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Counts, latency::Latency};

    /// One connection with two devices: ten readings sent, seven acknowledged, so that the first device
    /// has sent five and heard of four.
    fn found(rows: Option<Rows>) -> Found {
        let crowd = Crowd { connections: 1, devices: 2, tenants: 1, seed: 1 };
        let report = Report {
            counts: vec![Counts { sent: 10, acknowledged: 7 }],
            began: Instant::now(),
            elapsed: Duration::ZERO,
            latency: Latency::default(),
            progress: Vec::new(),
            broken: 0,
        };
        let mut found = Found::default();
        compare(&mut found, &crowd, &report, 0, rows);
        found
    }

    fn rows(rows: u64, times: u64, last: u64) -> Rows {
        Rows { rows, times, first: 1, last, changed: 0 }
    }

    #[test]
    fn acknowledged_readings_and_some_of_the_others_are_good() {
        assert!(found(Some(rows(4, 4, 4))).is_good());
        assert!(found(Some(rows(5, 5, 5))).is_good());
    }

    #[test]
    fn missing_doubled_and_invented_readings_are_told_apart() {
        let good = Found::default();
        assert_eq!(found(None), Found { lost: 4, ..good });
        assert_eq!(found(Some(rows(3, 3, 3))), Found { lost: 1, ..good });
        assert_eq!(found(Some(rows(4, 4, 5))), Found { lost: 1, ..good }, "a gap before the last");
        assert_eq!(found(Some(rows(6, 5, 5))), Found { twice: 1, ..good });
        assert_eq!(found(Some(rows(6, 6, 6))), Found { strange: 1, ..good });
        assert_eq!(found(Some(Rows { changed: 2, ..rows(5, 5, 5) })), Found { changed: 2, ..good });
    }
}
