//! A year of a country: vehicles, meters and car parks of 332 tenants.

use std::{path::PathBuf, sync::Arc};

use arrow::array::{ArrayRef, BooleanBuilder, Int32Builder, RecordBatch};
use fastrand::Rng;
use zeugma_lake::Lake;
use zeugma_schemas::domain::{Domain, Domains};

use crate::{
    Args, keep,
    question::Question,
    race,
    rows::{Common, DAY_US, Doubles, SECOND_US, rounded},
};

const TENANTS: usize = 332;
/// Of one tenant.
const VEHICLES: usize = 5;
const METERS: usize = 4;
const CAR_PARKS: usize = 3;
/// 2026-01-01T00:00:00Z.
const YEAR_US: i64 = 1_767_225_600_000_000;
const DAYS: i64 = 365;
const VEHICLE_INTERVAL_US: i64 = 600 * SECOND_US;
const METER_INTERVAL_US: i64 = 900 * SECOND_US;
const CAR_PARK_INTERVAL_US: i64 = 1_800 * SECOND_US;
/// Commits of a day, of which a compaction makes one file.
const COMMITS_A_DAY: i64 = 4;

/// Rows of all domains that a tenant has on a day.
const ROWS_A_DAY: i64 = VEHICLES as i64 * DAY_US / VEHICLE_INTERVAL_US
    + METERS as i64 * DAY_US / METER_INTERVAL_US
    + CAR_PARKS as i64 * DAY_US / CAR_PARK_INTERVAL_US;

/// Makes the rows, and compares the questions of the country.
pub async fn measure(args: &Args) -> anyhow::Result<()> {
    let lake = lake(args, days_of(args.rows)).await?;
    let folder = folder(args, days_of(args.rows));
    race::run("country", args, &folder, &lake, &["fleet", "energy", "parking"], &questions()).await
}

/// The days that make about so many rows, a year at most.
pub fn days_of(rows: u64) -> i64 {
    (rows as i64 / (TENANTS as i64 * ROWS_A_DAY) + 1).clamp(31, DAYS)
}

fn folder(args: &Args, days: i64) -> PathBuf {
    args.data.join(format!("country-{days}-days-seed-{}", args.seed))
}

/// The lake of the country, through so many days.
pub async fn lake(args: &Args, days: i64) -> anyhow::Result<Lake> {
    let domains = Domains::builtin();
    let mut country = Country::new(args.seed);
    keep::lake(&folder(args, days), &domains, async |writer| {
        for part in 0..days * COMMITS_A_DAY {
            let times =
                YEAR_US + part * DAY_US / COMMITS_A_DAY..YEAR_US + (part + 1) * DAY_US / COMMITS_A_DAY;
            for name in ["fleet", "energy", "parking"] {
                let domain = domains.get(name).expect("a domain that every city has");
                writer.commit(domain, country.rows(domain, times.clone())?).await?;
            }
        }
        Ok(())
    })
    .await
}

/// The questions of the country.
fn questions() -> Vec<Question> {
    growing().into_iter().chain([
        Question {
            name: "one tenant, energy of each building per day of a year",
            aims: (1.0, 1.2),
            ours: None,
            sql: "SELECT device, day, sum(CASE WHEN after >= before THEN after - before ELSE after END) AS energy_wh \
                  FROM (SELECT device, @day@ AS day, energy_import_wh AS after, @lag:energy_import_wh@ OVER \
                  (PARTITION BY device ORDER BY time) AS before FROM energy WHERE tenant = 't123') AS steps \
                  GROUP BY device, day ORDER BY device, day",
        },
        Question {
            name: "country totals per tenant and day over the year",
            aims: (1.0, 1.2),
            ours: None,
            sql: "SELECT tenant, @day@ AS day, count(*) AS n, sum(active_power_w) * 0.25 AS energy_wh, \
                  max(active_power_w) AS peak_w FROM energy GROUP BY tenant, @day@ ORDER BY tenant, day",
        },
    ]).collect()
}

/// The questions that must not grow with the country.
pub fn growing() -> Vec<Question> {
    vec![
        Question {
            name: "newest position of each vehicle of one tenant",
            aims: (0.2, 0.2),
            ours: Some(
                "SELECT device, time, latitude, longitude FROM fleet_latest WHERE tenant = 't123' ORDER BY device",
            ),
            sql: "SELECT device, max(time) AS time, @at_newest:latitude@ AS latitude, @at_newest:longitude@ AS longitude \
                  FROM fleet WHERE tenant = 't123' GROUP BY device ORDER BY device",
        },
        Question {
            name: "one device, one day, all columns",
            aims: (0.8, 1.0),
            ours: None,
            sql: "SELECT * FROM fleet WHERE tenant = 't123' AND device = 'vehicle-2' AND time >= '2026-01-20 00:00:00' \
                  AND time < '2026-01-21 00:00:00' ORDER BY time",
        },
        Question {
            name: "one tenant, one month, hourly means per device",
            aims: (0.8, 1.0),
            ours: None,
            sql: "SELECT device, @hour@ AS hour, avg(speed_kmh) AS speed_kmh FROM fleet WHERE tenant = 't123' \
                  AND time >= '2026-01-01 00:00:00' AND time < '2026-01-31 00:00:00' GROUP BY device, @hour@ \
                  ORDER BY device, hour",
        },
    ]
}

struct Country {
    rng: Rng,
    vehicles: Vec<Vehicle>,
    meters: Vec<Meter>,
    taken: Vec<i32>,
}

struct Vehicle {
    latitude: f64,
    longitude: f64,
    heading_deg: f64,
    odometer_m: f64,
    fuel_pct: f64,
}

struct Meter {
    base_w: f64,
    import_wh: f64,
}

impl Country {
    fn new(seed: u64) -> Country {
        let mut rng = Rng::with_seed(seed);
        let vehicles = (0..TENANTS * VEHICLES).map(|_| Vehicle {
            latitude: 35.0 + rng.f64() * 6.5,
            longitude: 20.0 + rng.f64() * 8.0,
            heading_deg: rng.f64() * 360.0,
            odometer_m: rng.f64() * 2e8,
            fuel_pct: 20.0 + rng.f64() * 80.0,
        });
        let vehicles = vehicles.collect();
        let meters = (0..TENANTS * METERS)
            .map(|_| Meter { base_w: 500.0 + rng.f64() * 9_500.0, import_wh: rng.f64() * 1e8 });
        let meters = meters.collect();
        Country { rng, vehicles, meters, taken: vec![50; TENANTS * CAR_PARKS] }
    }

    fn rows(&mut self, domain: &Domain, times: std::ops::Range<i64>) -> anyhow::Result<RecordBatch> {
        match domain.name() {
            "fleet" => self.fleet(domain, times),
            "energy" => self.energy(domain, times),
            _ => self.parking(domain, times),
        }
    }

    fn fleet(&mut self, domain: &Domain, times: std::ops::Range<i64>) -> anyhow::Result<RecordBatch> {
        let mut common = Common::new();
        let mut doubles =
            Doubles::new(["latitude", "longitude", "speed_kmh", "heading_deg", "odometer_m", "fuel_pct"]);
        let (mut ignition, mut satellites) = (BooleanBuilder::new(), Int32Builder::new());
        for (number, vehicle) in self.vehicles.iter_mut().enumerate() {
            let (tenant, device) = names(number, VEHICLES, "vehicle");
            for time_us in moments(&times, VEHICLE_INTERVAL_US) {
                let rng = &mut self.rng;
                let drives = works(time_us) && rng.f64() < 0.6;
                let speed_kmh = if drives { rounded(rng.f64() * 80.0, 1) } else { 0.0 };
                vehicle.go(speed_kmh, rng);
                let fix_us = time_us + rng.i64(0..SECOND_US);
                common.push(
                    &tenant,
                    &device,
                    fix_us,
                    rng.i64(20_000..2_000_000),
                    (time_us - YEAR_US) / VEHICLE_INTERVAL_US,
                );
                doubles.push([
                    Some(rounded(vehicle.latitude, 6)),
                    Some(rounded(vehicle.longitude, 6)),
                    Some(speed_kmh),
                    Some(rounded(vehicle.heading_deg, 0)),
                    Some(vehicle.odometer_m.round()),
                    Some(rounded(vehicle.fuel_pct, 1)),
                ]);
                ignition.append_value(drives);
                satellites.append_value(rng.i32(5..14));
            }
        }
        let mut own = doubles.finish();
        own.push(("ignition", Arc::new(ignition.finish())));
        own.push(("satellites", Arc::new(satellites.finish())));
        common.batch(domain.columns(), own)
    }

    fn energy(&mut self, domain: &Domain, times: std::ops::Range<i64>) -> anyhow::Result<RecordBatch> {
        let mut common = Common::new();
        let mut doubles = Doubles::new(["active_power_w", "energy_import_wh", "voltage_v"]);
        for (number, meter) in self.meters.iter_mut().enumerate() {
            let (tenant, device) = names(number, METERS, "meter");
            for time_us in moments(&times, METER_INTERVAL_US) {
                let rng = &mut self.rng;
                let busy = if works(time_us) { 3.0 } else { 1.0 };
                let power_w = rounded(meter.base_w * busy * (0.8 + 0.4 * rng.f64()), 0);
                meter.import_wh += power_w / 4.0;
                common.push(
                    &tenant,
                    &device,
                    time_us,
                    rng.i64(20_000..2_000_000),
                    (time_us - YEAR_US) / METER_INTERVAL_US,
                );
                doubles.push([
                    Some(power_w),
                    Some(rounded(meter.import_wh, 0)),
                    Some(rounded(226.0 + rng.f64() * 8.0, 1)),
                ]);
            }
        }
        common.batch(domain.columns(), doubles.finish())
    }

    fn parking(&mut self, domain: &Domain, times: std::ops::Range<i64>) -> anyhow::Result<RecordBatch> {
        let mut common = Common::new();
        let (mut taken, mut total) = (Int32Builder::new(), Int32Builder::new());
        for number in 0..self.taken.len() {
            let (tenant, device) = names(number, CAR_PARKS, "carpark");
            let spaces = 100 + (number as i32 % 7) * 50;
            for time_us in moments(&times, CAR_PARK_INTERVAL_US) {
                let rng = &mut self.rng;
                let now = (self.taken[number] + rng.i32(-12..=12)).clamp(0, spaces);
                self.taken[number] = now;
                common.push(
                    &tenant,
                    &device,
                    time_us,
                    rng.i64(20_000..2_000_000),
                    (time_us - YEAR_US) / CAR_PARK_INTERVAL_US,
                );
                taken.append_value(now);
                total.append_value(spaces);
            }
        }
        let own: Vec<(&str, ArrayRef)> =
            vec![("occupied_spaces", Arc::new(taken.finish())), ("total_spaces", Arc::new(total.finish()))];
        common.batch(domain.columns(), own)
    }
}

impl Vehicle {
    fn go(&mut self, speed_kmh: f64, rng: &mut Rng) {
        let way_m = speed_kmh / 3.6 * (VEHICLE_INTERVAL_US / SECOND_US) as f64;
        self.heading_deg = (self.heading_deg + rng.f64() * 90.0 - 45.0).rem_euclid(360.0);
        let (north, east) = (self.heading_deg.to_radians().cos(), self.heading_deg.to_radians().sin());
        self.latitude = (self.latitude + north * way_m / 111_000.0).clamp(34.5, 42.0);
        self.longitude = (self.longitude + east * way_m / 88_000.0).clamp(19.5, 28.5);
        self.odometer_m += way_m;
        self.fuel_pct -= way_m / 6_000.0;
        if self.fuel_pct < 10.0 {
            self.fuel_pct = 100.0;
        }
    }
}

/// Tenant and device of the device of this number, where each tenant has so many.
fn names(number: usize, of_tenant: usize, kind: &str) -> (String, String) {
    (format!("t{:03}", number / of_tenant), format!("{kind}-{}", number % of_tenant))
}

fn moments(times: &std::ops::Range<i64>, interval_us: i64) -> impl Iterator<Item = i64> + use<> {
    (times.start..times.end).step_by(interval_us as usize)
}

/// Whether people are at work.
fn works(time_us: i64) -> bool {
    let hour = time_us.rem_euclid(DAY_US) / (3_600 * SECOND_US);
    let weekday = (time_us.div_euclid(DAY_US) + 3).rem_euclid(7);
    (6..20).contains(&hour) && weekday < 5
}
