//! The look through all files before anything is sent: are the columns there, what are the devices called.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;
use zeugma_schemas::topic::Topic;

use super::{
    Plan, Speed, Usage,
    feed::PACED_ROWS_MAX,
    mapping::device_id,
    rows::{Cell, Row, Source},
};

/// Devices taken from files: 1,000,000 x about 200 bytes of names and topics are 200 MB.
const DEVICES_MAX: usize = 1_000_000;

/// Rows between two looks at the stop signal.
const STOP_ROWS: u64 = 4096;

/// What the files hold.
#[derive(Debug, Default)]
pub struct Scan {
    /// How many readings there are to send.
    pub rows: u64,
    /// The topic of each device, by its name in the files.
    pub topics: HashMap<String, Arc<str>>,
}

impl Scan {
    /// The topic of a row's device.
    pub fn topic(&self, plan: &Plan, row: &Row) -> anyhow::Result<&Arc<str>> {
        let name = plan.device_name(row);
        // A file that grew since the look may hold devices whose names nobody compared.
        self.topics
            .get(&name)
            .ok_or_else(|| anyhow::anyhow!("device '{name}' came into the file while it was read"))
    }
}

/// Reads all files once; any fault found here costs nothing, for nothing was sent.
pub fn scan(plan: &Plan, stop: &CancellationToken) -> anyhow::Result<Scan> {
    check_columns(plan)?;
    let mut scan = Scan::default();
    let mut names = HashMap::new();
    for source in &plan.sources {
        for row in source.rows(&plan.wanted)? {
            let row = row?;
            if scan.rows.is_multiple_of(STOP_ROWS) && stop.is_cancelled() {
                return Ok(scan);
            }
            look(plan, source, &row, &mut scan, &mut names)?;
            scan.rows += 1;
        }
    }
    if plan.speed != Speed::Max && scan.rows > PACED_ROWS_MAX {
        let fault =
            format!("--speed takes at most {PACED_ROWS_MAX} rows: split the files or use --speed max");
        return Err(Usage(fault).into());
    }
    Ok(scan)
}

fn look(
    plan: &Plan,
    source: &Source,
    row: &Row,
    scan: &mut Scan,
    names: &mut HashMap<String, String>,
) -> anyhow::Result<()> {
    let at = || format!("{}, line {}", source.path.display(), row.line);
    if matches!(row.cells[0], Cell::Local(_)) && !plan.has_zone {
        return Err(
            Usage(format!("{}: times are local: say with --time-zone in which zone, as UTC", at())).into()
        );
    }
    let name = plan.device_name(row);
    if scan.topics.contains_key(&name) {
        return Ok(());
    }
    let id = device_id(&name).map_err(|fault| Usage(format!("{}: {fault}", at())))?;
    if let Some(other) = names.insert(id.clone(), name.clone()) {
        return Err(Usage(format!(
            "{}: devices '{other}' and '{name}' would both be called '{id}': rename one in the files",
            at()
        ))
        .into());
    }
    if scan.topics.len() == DEVICES_MAX {
        return Err(Usage(format!("more than {DEVICES_MAX} devices: is --device-column right?")).into());
    }
    let topic = Topic { tenant: &plan.tenant, domain: &plan.domain, device: &id }.to_string();
    scan.topics.insert(name, topic.into());
    Ok(())
}

/// Each file that declares columns must have those wanted; files that do not, taken together.
fn check_columns(plan: &Plan) -> anyhow::Result<()> {
    let mut undeclared = BTreeSet::new();
    for source in &plan.sources {
        let columns = source.columns()?;
        if source.declares_columns() {
            check(plan, &source.path.display().to_string(), &columns)?;
        } else {
            undeclared.extend(columns);
        }
    }
    check(plan, "NDJSON", &Vec::from_iter(undeclared))
}

fn check(plan: &Plan, place: &str, columns: &[String]) -> anyhow::Result<()> {
    match plan.wanted.iter().find(|name| !columns.contains(name)) {
        // An empty file has no columns and no rows that would miss them.
        Some(missing) if !columns.is_empty() => {
            Err(Usage(format!("{place} has no column '{missing}'; there are: {}", columns.join(", "))).into())
        }
        _ => Ok(()),
    }
}
