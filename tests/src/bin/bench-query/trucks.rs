//! Trucks, as the Time Series Benchmark Suite describes them: readings and diagnostics of 4,000 for three days, with
//! entries that are missing, late, or without some values; and its twelve questions.
//!
//! Source of the description: github.com/timescale/tsbs, "IoT". A fleet is a tenant; what the suite calls tags are
//! columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Builder, RecordBatch, StringViewBuilder};
use fastrand::Rng;
use zeugma_schemas::domain::{Domain, Domains};

use crate::{
    Args, keep,
    question::Question,
    race,
    rows::{Common, DAY_US, Doubles, SECOND_US, rounded},
};

const TRUCKS: usize = 4_000;
const DAYS: i64 = 3;
/// 2026-01-01T00:00:00Z.
const BEGIN_US: i64 = 1_767_225_600_000_000;
const COMMITS_A_DAY: i64 = 24;
const FLEETS: [&str; 4] = ["east", "north", "south", "west"];
const MODELS: [&str; 3] = ["F-150", "G-2000", "H-2"];
const VERSIONS: [&str; 3] = ["v1.0", "v1.5", "v2.3"];
const DRIVERS: [&str; 8] = ["Albert", "Andy", "Derek", "Rodney", "Seth", "Trish", "Anna", "Mira"];
/// Of the entries, so many never come; of those that come, so many come with the next commit; of the values, so
/// many are null.
const MISSING: f64 = 0.05;
const LATE: f64 = 0.05;
const NULL: f64 = 0.01;

const TAGS: &str = r#"
    {"name": "time", "type": {"type": "long", "logicalType": "timestamp-micros"}, "unit": "us", "doc": "when"},
    {"name": "seq", "type": ["null", "long"], "default": null, "unit": "1", "doc": "number of the entry"},
    {"name": "driver", "type": ["null", "string"], "default": null, "unit": "1", "doc": "who drives"},
    {"name": "model", "type": ["null", "string"], "default": null, "unit": "1", "doc": "the truck's model"},
    {"name": "device_version", "type": ["null", "string"], "default": null, "unit": "1", "doc": "of the sensor"},
    {"name": "load_capacity_kg", "type": ["null", "double"], "default": null, "unit": "kg", "doc": "largest load"},
    {"name": "fuel_capacity_l", "type": ["null", "double"], "default": null, "unit": "l", "doc": "of the tank"},
    {"name": "nominal_fuel_consumption", "type": ["null", "double"], "default": null, "unit": "l/100km", "doc": "as sold"},"#;

/// Makes the rows, and compares the suite's questions.
pub async fn measure(args: &Args) -> anyhow::Result<()> {
    let folder = args.data.join(format!("trucks-{}-s-seed-{}", args.truck_interval_s, args.seed));
    let domains = domains()?;
    let lake = keep::lake(&folder, &domains, async |writer| {
        let mut trucks = Trucks::new(args.seed, i64::from(args.truck_interval_s) * SECOND_US, &domains);
        for part in 0..DAYS * COMMITS_A_DAY {
            let (readings, diagnostics) = trucks.part(part)?;
            writer.commit(trucks.readings(), readings).await?;
            writer.commit(trucks.diagnostics(), diagnostics).await?;
        }
        Ok(())
    })
    .await?;
    race::run("trucks", args, &folder, &lake, &["readings_of_trucks", "diagnostics_of_trucks"], &questions())
        .await
}

fn domains() -> anyhow::Result<Domains> {
    let schema = |name: &str, fields: &[&str]| {
        let field = |text: &&str| {
            let (name, kind) = text.split_once(':').expect("a name and a type");
            format!(
                r#"{{"name": "{name}", "type": ["null", "{kind}"], "default": null, "unit": "1", "doc": "{name}"}}"#
            )
        };
        let fields = fields.iter().map(field).collect::<Vec<_>>().join(", ");
        format!(
            r#"{{"type": "record", "name": "{name}", "namespace": "city.v1", "doc": "trucks", "fields": [{TAGS} {fields}]}}"#
        )
    };
    let mut domains = Domains::default();
    let doubles =
        ["latitude:double", "longitude:double", "elevation_m:double", "velocity:double", "heading:double"];
    let more = ["grade:double", "fuel_consumption:double"];
    domains.add(&schema("readings_of_trucks", &[&doubles[..], &more].concat()))?;
    domains.add(&schema(
        "diagnostics_of_trucks",
        &["fuel_state:double", "current_load_kg:double", "status:int"],
    ))?;
    Ok(domains)
}

/// One entry of both tables.
#[derive(Clone)]
struct Entry {
    truck: usize,
    time_us: i64,
    delay_us: i64,
    readings: [Option<f64>; 7],
    diagnostics: [Option<f64>; 2],
    status: Option<i32>,
}

struct Truck {
    name: String,
    fleet: &'static str,
    driver: &'static str,
    /// Some trucks have no model written down.
    model: Option<&'static str>,
    version: &'static str,
    capacities: [Option<f64>; 3],
    latitude: f64,
    longitude: f64,
    velocity: f64,
    heading: f64,
    fuel: f64,
    load_kg: f64,
    /// Whether it drives, and until when.
    drives: bool,
    until_us: i64,
    broken_until_us: i64,
}

struct Trucks {
    rng: Rng,
    interval_us: i64,
    trucks: Vec<Truck>,
    late: Vec<Entry>,
    domains: Domains,
}

impl Trucks {
    fn new(seed: u64, interval_us: i64, domains: &Domains) -> Trucks {
        let mut rng = Rng::with_seed(seed);
        let trucks = (0..TRUCKS).map(|number| Truck::new(number, &mut rng)).collect();
        Trucks { rng, interval_us, trucks, late: Vec::new(), domains: domains.clone() }
    }

    fn readings(&self) -> &Domain {
        self.domains.get("readings_of_trucks").expect("it was added")
    }

    fn diagnostics(&self) -> &Domain {
        self.domains.get("diagnostics_of_trucks").expect("it was added")
    }

    /// The entries that arrive in a part of a day, as rows of both tables.
    fn part(&mut self, part: i64) -> anyhow::Result<(RecordBatch, RecordBatch)> {
        let step_us = DAY_US / COMMITS_A_DAY;
        let begin_us = BEGIN_US + part * step_us;
        let mut entries = std::mem::take(&mut self.late);
        for (number, truck) in self.trucks.iter_mut().enumerate() {
            for time_us in (begin_us..begin_us + step_us).step_by(self.interval_us as usize) {
                let entry = truck.entry(number, time_us, self.interval_us, &mut self.rng);
                let chance = self.rng.f64();
                if chance < MISSING {
                    continue;
                }
                match chance < MISSING + LATE && part + 1 < DAYS * COMMITS_A_DAY {
                    true => self.late.push(entry),
                    false => entries.push(entry),
                }
            }
        }
        self.rows(&entries)
    }

    fn rows(&self, entries: &[Entry]) -> anyhow::Result<(RecordBatch, RecordBatch)> {
        let mut values = Doubles::new([
            "latitude",
            "longitude",
            "elevation_m",
            "velocity",
            "heading",
            "grade",
            "fuel_consumption",
        ]);
        entries.iter().for_each(|entry| values.push(entry.readings));
        let readings = self.batch(self.readings(), entries, values.finish())?;
        let mut values = Doubles::new(["fuel_state", "current_load_kg"]);
        let mut status = Int32Builder::new();
        for entry in entries {
            values.push(entry.diagnostics);
            status.append_option(entry.status);
        }
        let mut own = values.finish();
        own.push(("status", Arc::new(status.finish())));
        Ok((readings, self.batch(self.diagnostics(), entries, own)?))
    }

    fn batch(
        &self,
        domain: &Domain,
        entries: &[Entry],
        mut own: Vec<(&'static str, ArrayRef)>,
    ) -> anyhow::Result<RecordBatch> {
        let mut common = Common::new();
        let mut tags: [StringViewBuilder; 3] =
            std::array::from_fn(|_| StringViewBuilder::new().with_deduplicate_strings());
        let mut capacities =
            Doubles::new(["load_capacity_kg", "fuel_capacity_l", "nominal_fuel_consumption"]);
        for entry in entries {
            let truck = &self.trucks[entry.truck];
            let seq = (entry.time_us - BEGIN_US) / self.interval_us;
            common.push(truck.fleet, &truck.name, entry.time_us, entry.delay_us, seq);
            for (tag, value) in tags.iter_mut().zip([Some(truck.driver), truck.model, Some(truck.version)]) {
                tag.append_option(value);
            }
            capacities.push(truck.capacities);
        }
        let tags = tags.iter_mut().map(|tag| Arc::new(tag.finish()) as ArrayRef);
        own.extend(["driver", "model", "device_version"].into_iter().zip(tags));
        own.extend(capacities.finish());
        common.batch(domain.columns(), own)
    }
}

impl Truck {
    fn new(number: usize, rng: &mut Rng) -> Truck {
        let model = rng.usize(0..MODELS.len());
        let capacities = [[2_000.0, 200.0, 15.0], [5_000.0, 300.0, 19.0], [1_500.0, 150.0, 12.0]][model];
        Truck {
            name: format!("truck_{number}"),
            fleet: FLEETS[rng.usize(0..FLEETS.len())],
            driver: DRIVERS[rng.usize(0..DRIVERS.len())],
            model: (rng.f64() > NULL).then_some(MODELS[model]),
            version: VERSIONS[rng.usize(0..VERSIONS.len())],
            capacities: capacities.map(Some),
            latitude: 30.0 + rng.f64() * 20.0,
            longitude: -120.0 + rng.f64() * 40.0,
            velocity: 0.0,
            heading: rng.f64() * 360.0,
            fuel: 1.0,
            load_kg: 0.0,
            drives: false,
            until_us: BEGIN_US + rng.i64(0..6 * 3_600) * SECOND_US,
            broken_until_us: 0,
        }
    }

    fn entry(&mut self, truck: usize, time_us: i64, interval_us: i64, rng: &mut Rng) -> Entry {
        if time_us >= self.until_us {
            self.drives = !self.drives;
            let hours = if self.drives { rng.f64() * 7.0 } else { rng.f64() * 5.0 };
            self.until_us = time_us + (hours * 3_600.0) as i64 * SECOND_US;
            let capacity_kg = self.capacities[0].unwrap_or_default();
            self.load_kg = if rng.f64() < 0.7 { rounded(rng.f64() * capacity_kg, 0) } else { 0.0 };
        }
        if rng.f64() < 0.000_3 {
            self.broken_until_us = time_us + rng.i64(10..90) * 60 * SECOND_US;
        }
        let broken = time_us < self.broken_until_us;
        let moves = self.drives && !broken;
        self.velocity = if moves { (self.velocity + rng.f64() * 20.0 - 9.5).clamp(0.0, 100.0) } else { 0.0 };
        self.heading = (self.heading + rng.f64() * 10.0 - 5.0).rem_euclid(360.0);
        let way_m = self.velocity / 3.6 * (interval_us / SECOND_US) as f64;
        self.latitude += self.heading.to_radians().cos() * way_m / 111_000.0;
        self.longitude += self.heading.to_radians().sin() * way_m / 85_000.0;
        self.fuel -= way_m / 1_000_000.0;
        if self.fuel < 0.02 {
            self.fuel = 1.0;
        }
        let consumption = if moves { 10.0 + rng.f64() * 20.0 } else { 0.0 };
        let status = if broken { 0 } else { i32::from(moves) + 1 };
        let readings = [
            rounded(self.latitude, 5),
            rounded(self.longitude, 5),
            rounded(100.0 + rng.f64() * 400.0, 0),
            rounded(self.velocity, 0),
            rounded(self.heading, 0),
            rounded(rng.f64() * 100.0, 0),
            rounded(consumption, 1),
        ];
        let mut some = |value: f64| (rng.f64() > NULL).then_some(value);
        Entry {
            truck,
            time_us,
            readings: readings.map(&mut some),
            diagnostics: [rounded(self.fuel, 1), self.load_kg].map(&mut some),
            status: some(0.0).map(|_| status),
            delay_us: rng.i64(20_000..2_000_000),
        }
    }
}

/// The twelve questions of the suite.
fn questions() -> Vec<Question> {
    let question = |name, sql| Question { name, aims: (1.0, 1.5), ours: None, sql };
    let newest = |name, ours, sql| Question { name, aims: (1.0, 1.5), ours: Some(ours), sql };
    vec![
        newest(
            "last-loc",
            "SELECT device, driver, latitude, longitude FROM readings_of_trucks_latest WHERE tenant = 'south' ORDER BY device",
            "SELECT device, @row_at_newest:driver@ AS driver, @row_at_newest:latitude@ AS latitude, \
             @row_at_newest:longitude@ AS longitude FROM readings_of_trucks WHERE tenant = 'south' GROUP BY device ORDER BY device",
        ),
        newest(
            "low-fuel",
            "SELECT device, driver, fuel_state FROM diagnostics_of_trucks_latest WHERE tenant = 'south' AND fuel_state <= 0.1 \
             ORDER BY device",
            "SELECT device, @row_at_newest:driver@ AS driver, @row_at_newest:fuel_state@ AS newest FROM diagnostics_of_trucks \
             WHERE tenant = 'south' GROUP BY device HAVING @row_at_newest:fuel_state@ <= 0.1 ORDER BY device",
        ),
        newest(
            "high-load",
            "SELECT device, driver, current_load_kg FROM diagnostics_of_trucks_latest WHERE tenant = 'south' \
             AND current_load_kg / load_capacity_kg > 0.9 ORDER BY device",
            "SELECT device, @row_at_newest:driver@ AS driver, @row_at_newest:current_load_kg@ AS newest \
             FROM diagnostics_of_trucks WHERE tenant = 'south' GROUP BY device \
             HAVING @row_at_newest:current_load_kg@ / max(load_capacity_kg) > 0.9 ORDER BY device",
        ),
        question(
            "stationary-trucks",
            "SELECT device, driver FROM readings_of_trucks WHERE tenant = 'west' AND time >= '2026-01-02 10:20:00' \
             AND time < '2026-01-02 10:30:00' GROUP BY device, driver HAVING avg(velocity) < 1 ORDER BY device",
        ),
        question(
            "long-driving-sessions",
            "SELECT device, driver FROM (SELECT device, driver, @ten_minutes@ AS bucket FROM readings_of_trucks \
             WHERE tenant = 'west' AND time >= '2026-01-02 08:00:00' AND time < '2026-01-02 12:00:00' \
             GROUP BY device, driver, @ten_minutes@ HAVING avg(velocity) > 1) AS driven \
             GROUP BY device, driver HAVING count(*) > 22 ORDER BY device",
        ),
        question(
            "long-daily-sessions",
            "SELECT device, driver FROM (SELECT device, driver, @ten_minutes@ AS bucket FROM readings_of_trucks \
             WHERE tenant = 'west' AND time >= '2026-01-02 06:00:00' AND time < '2026-01-03 06:00:00' \
             GROUP BY device, driver, @ten_minutes@ HAVING avg(velocity) > 1) AS driven \
             GROUP BY device, driver HAVING count(*) > 60 ORDER BY device",
        ),
        question(
            "avg-vs-projected-fuel-consumption",
            "SELECT tenant, avg(fuel_consumption) AS mean, avg(nominal_fuel_consumption) AS projected FROM readings_of_trucks \
             WHERE velocity > 1 GROUP BY tenant ORDER BY tenant",
        ),
        question(
            "avg-daily-driving-duration",
            "SELECT tenant, device, driver, avg(hours) AS hours FROM (SELECT tenant, device, driver, bucket_day, \
             count(*) / 6.0 AS hours FROM (SELECT tenant, device, driver, @day@ AS bucket_day, @ten_minutes@ AS bucket \
             FROM readings_of_trucks GROUP BY tenant, device, driver, @day@, @ten_minutes@ HAVING avg(velocity) > 1) AS driven \
             GROUP BY tenant, device, driver, bucket_day) AS days GROUP BY tenant, device, driver ORDER BY tenant, device, driver",
        ),
        question(
            "avg-daily-driving-session",
            "SELECT device, session_day, avg(ten_minutes) AS ten_minutes FROM (SELECT device, min(bucket_day) AS session_day, \
             count(*) AS ten_minutes FROM (SELECT device, bucket_day, drives, sum(turns) OVER (PARTITION BY device ORDER BY bucket \
             ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS session FROM (SELECT device, bucket, bucket_day, drives, \
             CASE WHEN drives = @lag:drives@ OVER (PARTITION BY device ORDER BY bucket) THEN 0 ELSE 1 END AS turns \
             FROM (SELECT device, @day@ AS bucket_day, @ten_minutes@ AS bucket, CASE WHEN avg(velocity) > 5 THEN 1 ELSE 0 END \
             AS drives FROM readings_of_trucks GROUP BY device, @day@, @ten_minutes@) AS buckets) AS steps) AS sessions \
             WHERE drives = 1 GROUP BY device, session) AS lengths GROUP BY device, session_day ORDER BY device, session_day",
        ),
        question(
            "avg-load",
            "SELECT tenant, model, avg(load_kg / load_capacity_kg) AS load_share FROM (SELECT tenant, device, model, \
             load_capacity_kg, avg(current_load_kg) AS load_kg FROM diagnostics_of_trucks \
             GROUP BY tenant, device, model, load_capacity_kg) AS trucks GROUP BY tenant, model ORDER BY tenant, model NULLS FIRST",
        ),
        question(
            "daily-activity",
            "SELECT tenant, model, bucket_day, sum(ten_minutes) / 144.0 AS days FROM (SELECT tenant, device, model, bucket_day, \
             count(*) AS ten_minutes FROM (SELECT tenant, device, model, @day@ AS bucket_day, @ten_minutes@ AS bucket \
             FROM diagnostics_of_trucks GROUP BY tenant, device, model, @day@, @ten_minutes@ HAVING avg(status) >= 1) AS active \
             GROUP BY tenant, device, model, bucket_day) AS trucks GROUP BY tenant, model, bucket_day \
             ORDER BY tenant, model NULLS FIRST, bucket_day",
        ),
        question(
            "breakdown-frequency",
            "SELECT model, count(*) AS breakdowns FROM (SELECT model, broken, @lag:broken@ OVER (PARTITION BY device \
             ORDER BY bucket) AS before FROM (SELECT device, model, @ten_minutes@ AS bucket, \
             CASE WHEN sum(CASE WHEN status = 0 THEN 1.0 ELSE 0.0 END) / count(*) >= 0.5 THEN 1 ELSE 0 END AS broken \
             FROM diagnostics_of_trucks GROUP BY device, model, @ten_minutes@) AS buckets) AS steps \
             WHERE broken = 1 AND before = 0 GROUP BY model ORDER BY model NULLS FIRST",
        ),
    ]
}
