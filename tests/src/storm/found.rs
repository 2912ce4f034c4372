//! What SQL answers afterwards, key by key: everything acknowledged once, and nothing that was not sent.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use zeugma_schemas::domains::{Fleet, Measurement};

/// When the first reading of every device was taken: a second lies between two.
const TIME_FIRST_US: i64 = 1_700_000_000_000_000;

/// How long what is acknowledged may take to be visible.
const PATIENCE: Duration = Duration::from_secs(120);

/// A device's reading, in Avro; its `seq` is its place among the device's readings, from 1.
pub fn reading(number: usize, at: usize) -> Vec<u8> {
    let mut buf = [0; 256];
    let fleet = Fleet { latitude: (number % 90) as f64, longitude: (at % 180) as f64, ..Fleet::default() };
    let time_us = TIME_FIRST_US + at as i64 * 1_000_000;
    let len = fleet.encode_avro(time_us, at as i64 + 1, &mut buf).expect("room for one reading");
    buf[..len].to_vec()
}

/// What was sent, and of that what was acknowledged: by tenant and device.
#[derive(Debug, Default)]
pub struct Check {
    sent: BTreeMap<String, BTreeMap<String, Vec<bool>>>,
}

/// What is wrong; all zero where nothing is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Readings that SQL answers.
    pub rows: usize,
    /// Acknowledged and not there.
    pub lost: usize,
    /// There more than once.
    pub twice: usize,
    /// There and never sent.
    pub foreign: usize,
}

impl Found {
    /// Whether everything is as it must be.
    pub fn is_right(&self) -> bool {
        (self.lost, self.twice, self.foreign) == (0, 0, 0)
    }
}

impl Check {
    /// Adds what a device sent: whether each of its readings was acknowledged.
    pub fn expect(&mut self, tenant: &str, device: &str, acknowledged: Vec<bool>) {
        self.sent.entry(tenant.to_owned()).or_default().insert(device.to_owned(), acknowledged);
    }

    /// Readings that were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.sent.values().flat_map(BTreeMap::values).flatten().filter(|acknowledged| **acknowledged).count()
    }

    /// Asks a server, tenant by tenant, once as much is visible as was acknowledged.
    pub async fn ask(&self, url: &str) -> anyhow::Result<Found> {
        let (deadline, wanted) = (Instant::now() + PATIENCE, self.acknowledged());
        loop {
            let count = csv(url, "SELECT count(*) FROM fleet").await?;
            let count: usize = count.get(1).context("no count")?.parse()?;
            if count >= wanted || Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut found = Found::default();
        let tenants = csv(url, "SELECT DISTINCT tenant FROM fleet").await?;
        for tenant in tenants.iter().skip(1).filter(|tenant| !self.sent.contains_key(*tenant)) {
            let rows = csv(url, &format!("SELECT seq FROM fleet WHERE tenant = '{tenant}'")).await?;
            found.foreign += rows.len() - 1;
        }
        for (tenant, devices) in &self.sent {
            let rows = csv(url, &format!("SELECT device, seq FROM fleet WHERE tenant = '{tenant}'")).await?;
            compare(devices, &rows[1..], &mut found)?;
        }
        Ok(found)
    }
}

/// Compares one tenant's rows, each `device,seq`, with what was sent.
fn compare(devices: &BTreeMap<String, Vec<bool>>, rows: &[String], found: &mut Found) -> anyhow::Result<()> {
    let mut counts: BTreeMap<&str, Vec<u32>> =
        devices.iter().map(|(device, sent)| (device.as_str(), vec![0; sent.len()])).collect();
    for row in rows {
        let (device, seq) = row.split_once(',').context("a row of two columns")?;
        let seq: usize = seq.parse()?;
        found.rows += 1;
        match counts.get_mut(device).and_then(|counts| counts.get_mut(seq.wrapping_sub(1))) {
            Some(count) => *count += 1,
            None => found.foreign += 1,
        }
    }
    for (acknowledged, count) in devices.values().flatten().zip(counts.values().flatten()) {
        found.lost += usize::from(*acknowledged && *count == 0);
        found.twice += usize::from(*count > 1);
    }
    Ok(())
}

/// The lines of an answer, the names of the columns first.
async fn csv(url: &str, sql: &str) -> anyhow::Result<Vec<String>> {
    let request = reqwest::Client::new().post(format!("{url}/api/v1/sql")).header("accept", "text/csv");
    let body = serde_json::json!({ "sql": sql }).to_string();
    let answer = request.header("content-type", "application/json").body(body).send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    if !status.is_success() {
        bail!("{sql}: {status}: {text}");
    }
    Ok(text.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_wrong_is_seen() {
        let mut check = Check::default();
        check.expect("lamia", "bus", vec![true, true, false, true, false]);
        let rows = ["bus,1", "bus,2", "bus,2", "bus,5", "bus,6", "car,1"].map(str::to_owned);
        let mut found = Found::default();
        compare(&check.sent["lamia"], &rows, &mut found).unwrap();
        assert_eq!(found, Found { rows: 6, lost: 1, twice: 1, foreign: 2 });
        assert!(!found.is_right() && check.acknowledged() == 3);
    }
}
