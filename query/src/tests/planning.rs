//! A year of a country: a question opens the files that can hold its rows, and no others.

use std::{collections::BTreeSet, fmt, ops::Range};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use zeugma_lake::{
    Store,
    compact::{Compaction, Wanted, plan},
};
use zeugma_schemas::batch::DAY_US;

use super::*;

const TENANTS: usize = 332;
const DAYS: i64 = 365;
/// 2026-01-01T00:00:00Z.
const YEAR_US: i64 = 1_767_225_600_000_000;

/// A store that remembers which files of rows were read.
#[derive(Debug, Default)]
struct Watched {
    objects: InMemory,
    read: Mutex<BTreeSet<String>>,
}

impl Watched {
    fn saw(&self, path: &Path) {
        if path.as_ref().ends_with(".parquet") && !path.as_ref().contains("_zeugma/") {
            self.read.lock().unwrap().insert(path.to_string());
        }
    }

    /// The files read since the last time.
    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.read.lock().unwrap())
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("watched")
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.objects.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.saw(path);
        self.objects.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.saw(path);
        self.objects.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

/// One reading of one device of each tenant for each of these moments.
fn readings_of(domain: &str, moments: impl Iterator<Item = i64> + Clone) -> RecordBatch {
    let domains = Domains::builtin();
    let domain = domains.get(domain).unwrap();
    let fields = match domain.name() {
        "energy" => r#""active_power_w":5.5"#,
        "parking" => r#""occupied_spaces":5"#,
        "fleet" => r#""latitude":38.5,"longitude":22.5"#,
        "connectivity" => r#""up":true"#,
        _ => r#""uptime_s":5"#,
    };
    let mut builder = Builder::new(domain.clone());
    for tenant in 0..TENANTS {
        let tenant = format!("t{tenant:03}");
        for time_us in moments.clone() {
            let payload = format!(r#"{{"time":{time_us},{fields}}}"#);
            for reading in readings(domain, payload.as_bytes(), NOW_US * 2) {
                let origin = Origin { tenant: &tenant, device: "d1", received_at_us: time_us };
                builder.push(origin, &reading.unwrap());
            }
        }
    }
    builder.finish().unwrap()
}

/// All domains, all tenants, all days; the first of July has fifty readings a device. One domain is compacted: its
/// runs of 64 days are a few files each.
async fn a_year_of_a_country() -> (City, Arc<Watched>) {
    let store = Arc::new(Watched::default());
    let lake = Store::with_root(store.clone(), "memory:///".parse().unwrap()).unwrap();
    let city = City::in_store(lake, tempfile::tempdir().unwrap()).await;
    for domain in ["energy", "parking", "fleet", "connectivity", "device_health"] {
        let year = readings_of(domain, (0..DAYS).map(|day| YEAR_US + day * DAY_US + 1));
        city.commit(domain, vec![year], 1).await;
    }
    let july = YEAR_US + 181 * DAY_US;
    let day = readings_of("energy", (1..50).map(|hour| july + hour * DAY_US / 50));
    let columns = day.schema();
    city.commit("energy", vec![day], 2).await;
    let (table, lease) = (city.lake.table("energy"), city.lease.clone());
    let mut compaction = Compaction { table: table.clone(), columns, lease, file_rows_max: 1_000, number: 0 };
    while let Some(job) = plan(table.load().await.unwrap().files(), Wanted::OneRun).pop() {
        compaction.run(&job, || 0, drop).await.unwrap();
        compaction.number += 1;
    }
    (city, store)
}

#[tokio::test]
async fn question_opens_only_files_that_can_hold_its_rows() {
    let (city, store) = a_year_of_a_country().await;
    let query = Query::new(city.lake.clone(), None, Config::default()).unwrap();
    let all = city.lake.table("energy").load().await.unwrap();
    let of_day = |time_us: i64| {
        let date = zeugma_schemas::batch::date_of(time_us);
        all.files().iter().filter(|file| file.dates.contains(&date)).count()
    };
    let (march, july) = (of_day(YEAR_US + 59 * DAY_US), of_day(YEAR_US + 181 * DAY_US));
    assert!((10..60).contains(&all.files().len()) && march >= 2 && july > march, "{}", all.files().len());
    let uncompacted = city.lake.table("fleet").load().await.unwrap();
    assert_eq!(uncompacted.files().len() as i64, DAYS);
    store.take();
    let t100 = Grant::tenants(["t100"]);
    let day = "time >= '2026-03-01T00:00:00Z' AND time < '2026-03-02T00:00:00Z'";
    let cut = "time >= '2026-07-01T00:00:00Z' AND time < '2026-07-02T00:00:00Z'";
    for (grant, condition, rows, files) in [
        // Of files that have the date, those where the tenant can be.
        (&Grant::All, format!("tenant = 't100' AND {day}"), 1, 1..=2),
        (&t100, day.to_owned(), 1, 1..=2),
        (&Grant::All, "device = 'd1' AND date = '2026-03-01'".to_owned(), TENANTS as i64, march..=march),
        (
            &Grant::All,
            "tenant = 't100' AND time >= '2026-03-01T00:00:00Z' AND time < '2026-04-01T00:00:00Z'".to_owned(),
            31,
            1..=4,
        ),
        (&Grant::All, format!("tenant = 't100' AND {cut}"), 50, 1..=2),
        (&t100, cut.to_owned(), 50, 1..=2),
        (&Grant::All, cut.to_owned(), 50 * TENANTS as i64, july..=july),
        (&Grant::All, "tenant = 'nobody'".to_owned(), 0, 0..=0),
        (&Grant::All, "time > '2028-01-01T00:00:00Z'".to_owned(), 0, 0..=0),
        (&Grant::All, "time > now() + INTERVAL '100 years'".to_owned(), 0, 0..=0),
    ] {
        let sql = format!("SELECT count(active_power_w) FROM energy WHERE {condition}");
        assert_eq!(number(&query, grant, &sql).await, rows, "{sql}");
        let read = store.take();
        assert!(files.contains(&read.len()), "{sql}: {read:?}");
        assert!(read.iter().all(|path| path.contains("energy/")), "{sql}: {read:?}");
    }
    // Without a compaction, too: the one file of the day.
    let sql = format!("SELECT count(*) FROM fleet WHERE tenant = 't100' AND {day}");
    assert_eq!(number(&query, &Grant::All, &sql).await, 1);
    assert_eq!(store.take().len(), 1);
    // The newest readings are worked out once, and then known.
    let latest = "SELECT count(*) FROM energy_latest WHERE tenant = 't100'";
    assert_eq!(number(&query, &t100, latest).await, 1);
    store.take();
    assert_eq!(number(&query, &t100, latest).await, 1);
    assert_eq!(store.take(), BTreeSet::new());
}
