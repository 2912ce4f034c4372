//! A table at a version: its files, and through which position of each source it holds everything.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
};

use chrono::{DateTime, NaiveDate};
use deltalake_core::{
    kernel::{Action, Add, LogicalFileView},
    logstore::{LogStore, get_actions},
    table::state::DeltaTableState,
};
use serde_json::Value;
use zeugma_schemas::batch::date_of;

use crate::{Error, Position, Table, lease, table::DATE};

/// Name, in a table's `txn` actions, of the epoch that may write to it.
pub(crate) const LEASE_APP: &str = "zeugma/lease";

/// Name, in a table's `txn` actions, of the first version that can be read since rows were erased.
pub(crate) const READABLE_APP: &str = "zeugma/readable_from";

/// Name, in a table's `txn` actions, of the last version by which rows have gone, erased or too old.
pub(crate) const GONE_APP: &str = "zeugma/rows_gone_in";

/// Prefix, in a table's `txn` actions, of the sources whose positions it carries.
const SOURCE_APP: &str = "zeugma/source/";

/// A table at a version.
#[derive(Debug, Clone)]
pub struct Snapshot {
    table: String,
    version: u64,
    files: Vec<DataFile>,
    applications: BTreeMap<String, i64>,
}

/// One Parquet file of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile {
    /// Path from the root of the store.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// First and last UTC date, days since 1970; where the log says nothing, all there are.
    pub dates: RangeInclusive<i32>,
    /// How many rows it has, where the log says so.
    pub rows: Option<u64>,
    /// First and last tenant, where the log says so.
    pub tenants: Option<(String, String)>,
    /// First and last device, by name alone.
    pub devices: Option<(String, String)>,
    /// Earliest and latest time, microseconds since 1970.
    pub times_us: Option<(i64, i64)>,
}

/// The `txn` name under which a table carries a source's position.
pub(crate) fn source_app(source: &str) -> String {
    format!("{SOURCE_APP}{source}")
}

impl Snapshot {
    /// Reads the state that Delta Lake has loaded; `known` spares what did not change since.
    pub(crate) async fn of(
        table: &Table,
        state: &DeltaTableState,
        log: &dyn LogStore,
        known: Option<&Snapshot>,
    ) -> Result<Snapshot, Error> {
        let mut files: HashMap<&str, &DataFile> = HashMap::new();
        files.extend(known.iter().flat_map(|known| &known.files).map(|file| (file.path.as_str(), file)));
        let log_data = state.log_data();
        let found = log_data.iter().map(|view| {
            let path = table.path(view.path().as_ref());
            match files.get(path.as_str()) {
                Some(file) => (*file).clone(),
                None => data_file(path, &view),
            }
        });
        let files = found.collect();
        let applications = applications(table, state, log, known).await?;
        Ok(Snapshot { table: table.name().to_owned(), version: state.version(), files, applications })
    }

    /// The table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Its files.
    pub fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// Through which position of a source it holds everything.
    pub fn committed_through(&self, source: &str) -> Position {
        // Positions begin at 1 and are written by us alone; anything below zero cannot be.
        self.applications.get(&source_app(source)).map_or(0, |position| (*position).max(0) as Position)
    }

    /// The first version that may be read: those before it have rows that were erased since.
    pub fn readable_from(&self) -> u64 {
        self.applications.get(READABLE_APP).map_or(0, |version| (*version).max(0) as u64)
    }

    /// The last version by which rows have gone, erased or too old; 0 where none have.
    pub fn rows_gone_in(&self) -> u64 {
        self.applications.get(GONE_APP).map_or(0, |version| (*version).max(0) as u64)
    }

    /// The highest epoch that has committed here.
    pub fn epoch(&self) -> i64 {
        self.applications.get(LEASE_APP).copied().unwrap_or(0)
    }
}

/// The table's `txn` actions, by name: those known before, and those of the commits since.
async fn applications(
    table: &Table,
    state: &DeltaTableState,
    log: &dyn LogStore,
    known: Option<&Snapshot>,
) -> Result<BTreeMap<String, i64>, Error> {
    let Some(known) = known else { return first_applications(table, state, log).await };
    let mut applications = known.applications.clone();
    for version in known.version + 1..=state.version() {
        let Some(bytes) = log.read_commit_entry(version).await? else {
            // Who has not looked for longer than the log is kept begins anew, at its checkpoint.
            return first_applications(table, state, log).await;
        };
        for action in get_actions(version, &bytes)? {
            if let Action::Txn(txn) = action {
                applications.insert(txn.app_id, txn.version);
            }
        }
    }
    Ok(applications)
}

/// The `txn` actions that whoever has loaded nothing yet must know.
///
/// Delta Lake answers by name only: the names are those of the fence, of rows that have gone, and of the lake's
/// present source.
/// Any other source first [fences](Table::fence) the table and so tells its position in a later commit.
async fn first_applications(
    table: &Table,
    state: &DeltaTableState,
    log: &dyn LogStore,
) -> Result<BTreeMap<String, i64>, Error> {
    let source = lease::holder(table.store()).await?;
    let mut applications = BTreeMap::new();
    for name in [LEASE_APP, READABLE_APP, GONE_APP]
        .map(str::to_owned)
        .into_iter()
        .chain(source.map(|source| source_app(&source)))
    {
        if let Some(version) = state.transaction_version(log, &name).await? {
            applications.insert(name, version);
        }
    }
    Ok(applications)
}

/// A file as the log tells of it.
fn data_file(path: String, view: &LogicalFileView) -> DataFile {
    let stats = view.stats().and_then(|stats| serde_json::from_str(&stats).ok()).unwrap_or_default();
    // A negative size would be a damaged log; reading such a file fails by itself.
    DataFile::of(path, view.size().max(0) as u64, &stats)
}

impl DataFile {
    /// A file as the commit tells of it that has brought it.
    pub(crate) fn added(table: &Table, add: &Add) -> DataFile {
        let stats = add.stats.as_deref().and_then(|stats| serde_json::from_str(stats).ok());
        DataFile::of(table.path(&add.path), add.size.max(0) as u64, &stats.unwrap_or_default())
    }

    /// A file with statistics as Delta Lake has them.
    pub(crate) fn of(path: String, size: u64, stats: &Value) -> DataFile {
        let range =
            |name: &str| Some((stats["minValues"][name].as_str()?, stats["maxValues"][name].as_str()?));
        let texts = |name: &str| range(name).map(|(low, high)| (low.to_owned(), high.to_owned()));
        let time_us = |text: &str| Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros());
        let times_us = range("time").and_then(|(low, high)| time_us(low).zip(time_us(high)));
        // Other engines cut statistics to milliseconds, so the last microseconds may lie beyond.
        let times_us = times_us.map(|(low, high)| (low, high + 999));
        let day = |text: &str| {
            let date = text.parse::<NaiveDate>().ok()?;
            Some(date.signed_duration_since(NaiveDate::default()).num_days() as i32)
        };
        let dates = range(DATE).and_then(|(low, high)| day(low).zip(day(high)));
        // Other engines leave statistics of the last columns out, and times say the same.
        let dates = dates.or(times_us.map(|(low, high)| (date_of(low), date_of(high))));
        let (first, last) = dates.unwrap_or((i32::MIN, i32::MAX));
        DataFile {
            path,
            size,
            dates: first..=last,
            rows: stats["numRecords"].as_u64(),
            tenants: texts("tenant"),
            devices: texts("device"),
            times_us,
        }
    }
}
