//! Which rows go: all of a tenant or device that is erased, or those older than is kept. Pure.

use std::collections::BTreeMap;

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch, StringViewArray},
    datatypes::{Schema, TimestampMicrosecondType},
};
use serde::{Deserialize, Serialize};
use zeugma_schemas::{
    batch::DAY_US,
    topic::{PREFIX, Topic},
};

use crate::{Error, snapshot::DataFile};

/// Which rows of a table go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gone {
    /// Those of a tenant, or of one of its devices.
    Of(Subject),
    /// Those of long ago.
    Before(Expiry),
}

/// A tenant, or one of its devices.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// The tenant.
    pub tenant: String,
    /// The device; none for all of the tenant.
    pub device: Option<String>,
}

/// Since when rows of a table are kept, by tenant; microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// Tenants of which it is said.
    pub tenants: BTreeMap<String, i64>,
    /// All others; where nothing is known of whose a row is, it counts as theirs.
    pub others: i64,
}

impl Subject {
    /// Whether it has a device of this topic.
    pub fn has(&self, topic: &Topic<'_>) -> bool {
        topic.tenant == self.tenant && self.device.as_deref().is_none_or(|device| topic.device == device)
    }

    /// Whether a dead letter is its: by the tenant it belongs to, else the one that its topic names, and by the
    /// device of the topic, also where that has faults.
    pub fn has_letter(&self, tenant: Option<&str>, topic: &str) -> bool {
        let mut parts = topic.strip_prefix(PREFIX).into_iter().flat_map(|parts| parts.split('/'));
        let (named, device) = (parts.next(), parts.nth(1));
        tenant.or(named) == Some(self.tenant.as_str())
            && self.device.as_deref().is_none_or(|wanted| device == Some(wanted))
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.device {
            Some(device) => write!(f, "device {device} of {}", self.tenant),
            None => write!(f, "all devices of {}", self.tenant),
        }
    }
}

impl Expiry {
    /// Keeps everything.
    pub fn never() -> Expiry {
        Expiry { tenants: BTreeMap::new(), others: i64::MIN }
    }

    fn of(&self, tenant: Option<&str>) -> i64 {
        tenant.and_then(|tenant| self.tenants.get(tenant)).copied().unwrap_or(self.others)
    }

    /// The latest one, of tenants within a range and of whose rows nobody knows.
    fn latest(&self, tenants: Option<&(String, String)>) -> i64 {
        let within = |tenant: &&String| tenants.is_none_or(|(low, high)| *tenant >= low && *tenant <= high);
        let named = self.tenants.iter().filter(|(tenant, _)| within(tenant)).map(|(_, since_us)| *since_us);
        named.fold(self.others, i64::max)
    }
}

impl Gone {
    /// The columns, of those that a table has, that say which rows go.
    pub fn columns(&self, table: &Schema) -> Vec<&'static str> {
        let has = |name: &&str| table.column_with_name(name).is_some();
        let time = ["time", "received_at"].into_iter().find(has);
        let device = ["device", "topic"].into_iter().find(has);
        match self {
            Gone::Of(_) => ["tenant"].into_iter().chain(device).collect(),
            Gone::Before(_) => ["tenant"].into_iter().chain(time).collect(),
        }
    }

    /// Whether a file can have rows that go, by what the log says of it.
    pub fn may_be_in(&self, file: &DataFile) -> bool {
        let within = |range: &Option<(String, String)>, value: &str| {
            range.as_ref().is_none_or(|(low, high)| low.as_str() <= value && value <= high.as_str())
        };
        match self {
            Gone::Of(subject) => {
                // Letters have no devices, and those of nobody may name the tenant in their topic.
                (within(&file.tenants, &subject.tenant) || file.devices.is_none())
                    && subject.device.as_deref().is_none_or(|device| within(&file.devices, device))
            }
            Gone::Before(expiry) => {
                let first_us = i64::from(*file.dates.start()).saturating_mul(DAY_US);
                let first_us = file.times_us.map_or(first_us, |(first_us, _)| first_us);
                first_us < expiry.latest(file.tenants.as_ref())
            }
        }
    }

    /// Which of some rows go.
    ///
    /// # Errors
    /// [`Error::Internal`] where they lack the [columns](Gone::columns) that say so.
    pub fn of(&self, rows: &RecordBatch) -> Result<BooleanArray, Error> {
        let tenants = text(rows, "tenant").ok_or_else(|| missing("tenant"))?;
        match self {
            Gone::Of(subject) => {
                let has = has_rows(subject, rows).ok_or_else(|| missing("device"))?;
                let gone = tenants.iter().enumerate().map(|(row, tenant)| Some(has(row, tenant)));
                Ok(gone.collect())
            }
            Gone::Before(expiry) => {
                let times = ["time", "received_at"].into_iter().find_map(|name| rows.column_by_name(name));
                let times = times.and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
                let times = times.ok_or_else(|| missing("time"))?.values();
                let gone = tenants.iter().zip(times).map(|(tenant, time_us)| *time_us < expiry.of(tenant));
                Ok(gone.map(Some).collect())
            }
        }
    }
}

/// Says of a row, by its number and its tenant.
type HasRow<'a> = Box<dyn Fn(usize, Option<&str>) -> bool + 'a>;

/// Whether rows are the subject's: of readings, or of dead letters.
fn has_rows<'a>(subject: &'a Subject, rows: &'a RecordBatch) -> Option<HasRow<'a>> {
    if let Some(devices) = text(rows, "device") {
        return Some(Box::new(|row, tenant| {
            let wanted = |device: &str| devices.value(row) == device;
            tenant == Some(subject.tenant.as_str()) && subject.device.as_deref().is_none_or(wanted)
        }));
    }
    let topics = text(rows, "topic")?;
    Some(Box::new(|row, tenant| subject.has_letter(tenant, topics.value(row))))
}

fn text<'a>(rows: &'a RecordBatch, name: &str) -> Option<&'a StringViewArray> {
    rows.column_by_name(name).and_then(|column| column.as_string_view_opt())
}

fn missing(name: &str) -> Error {
    Error::Internal(format!("rows without `{name}` say not whether they go"))
}

#[cfg(test)]
mod tests {
    use arrow::{compute::filter_record_batch, datatypes::Int64Type};
    use zeugma_schemas::{
        dead_letter::{self, DeadLetter, Reason},
        domain::Domains,
    };

    use super::*;
    use crate::fixture::{NOW_US, rows};

    fn subject(tenant: &str, device: Option<&str>) -> Gone {
        Gone::Of(Subject { tenant: tenant.into(), device: device.map(str::to_owned) })
    }

    fn before(tenants: &[(&str, i64)], others: i64) -> Gone {
        let tenants = tenants.iter().map(|(tenant, since_us)| ((*tenant).to_owned(), *since_us)).collect();
        Gone::Before(Expiry { tenants, others })
    }

    fn file(tenants: (&str, &str), devices: (&str, &str), times_us: (i64, i64)) -> DataFile {
        let pair = |(low, high): (&str, &str)| Some((low.to_owned(), high.to_owned()));
        let dates = (times_us.0 / DAY_US) as i32..=(times_us.1 / DAY_US) as i32;
        let (tenants, devices) = (pair(tenants), pair(devices));
        DataFile { path: "f".into(), size: 1, dates, rows: None, tenants, devices, times_us: Some(times_us) }
    }

    #[test]
    fn device_goes_and_nothing_else_does() {
        let domains = Domains::builtin();
        let (one, other) = (rows(&domains, "p1", 0..3), rows(&domains, "p11", 0..3));
        let count = |gone: &Gone, rows: &RecordBatch| gone.of(rows).unwrap().true_count();
        assert_eq!(count(&subject("lamia", Some("p1")), &one), 3);
        assert_eq!(count(&subject("lamia", Some("p1")), &other), 0);
        assert_eq!(count(&subject("lamia", None), &other), 3);
        assert_eq!(count(&subject("lami", None), &other), 0);
    }

    #[test]
    fn dead_letters_go_by_the_device_of_their_topic_and_the_tenant_they_belong_to() {
        let letter = |tenant: Option<&str>, topic: &str, position: i64| DeadLetter {
            tenant: tenant.map(str::to_owned),
            topic: topic.into(),
            received_at_us: NOW_US,
            reason: Reason::Content,
            detail: String::new(),
            payload: Vec::new(),
            payload_bytes: 0,
            source: "s".into(),
            position,
            index: 0,
        };
        let letters = [
            letter(Some("lamia"), "city/v1/lamia/parking/p1", 1),
            letter(Some("lamia"), "city/v1/lamia/parking/p2", 2),
            letter(Some("ostrava"), "city/v1/ostrava/parking/p1", 3),
            letter(Some("lamia"), "something/else", 4),
            letter(None, "something/else", 5),
            letter(None, "city/v1/lamia/parking/p1/too/long", 6),
        ];
        let rows = dead_letter::to_batch(&letters).unwrap();
        let gone = |gone: Gone| {
            let rows = filter_record_batch(&rows, &gone.of(&rows).unwrap()).unwrap();
            rows.column_by_name("position").unwrap().as_primitive::<Int64Type>().values().to_vec()
        };
        assert_eq!(gone(subject("lamia", Some("p1"))), [1, 6]);
        assert_eq!(gone(subject("lamia", None)), [1, 2, 4, 6]);
        assert_eq!(gone(before(&[("lamia", NOW_US + 1)], i64::MIN)), [1, 2, 4]);
        assert_eq!(gone(before(&[("lamia", i64::MIN)], NOW_US + 1)), [3, 5, 6]);
        assert_eq!(gone(before(&[("lamia", NOW_US)], NOW_US)), [0; 0]);
    }

    #[test]
    fn files_without_such_rows_are_passed_over() {
        let day = file(("argos", "lamia"), ("p1", "p4"), (5 * DAY_US, 6 * DAY_US - 1));
        assert!(subject("lamia", Some("p2")).may_be_in(&day));
        assert!(!subject("lamia", Some("p5")).may_be_in(&day));
        assert!(!subject("ostrava", None).may_be_in(&day));
        assert!(before(&[("lamia", 5 * DAY_US + 1)], i64::MIN).may_be_in(&day));
        assert!(!before(&[("lamia", 5 * DAY_US)], i64::MIN).may_be_in(&day));
        assert!(!before(&[("ostrava", 9 * DAY_US)], i64::MIN).may_be_in(&day));
        assert!(before(&[("lamia", i64::MIN)], 9 * DAY_US).may_be_in(&day));
        // Rows of nobody are in no statistics.
        let one = file(("lamia", "lamia"), ("p1", "p4"), (5 * DAY_US, 6 * DAY_US - 1));
        assert!(before(&[("lamia", i64::MIN)], 9 * DAY_US).may_be_in(&one));
    }
}
