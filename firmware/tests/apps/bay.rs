use embassy_time::{Duration, Instant};
use zeugma_firmware::{
    apps::bay::{Bay, Detector, Field, Magnetometer, Thresholds},
    random::{Random, mixed},
    sensor::Sensor,
};

use super::moment;

/// A bay's month, a sample a second: cars that stay for minutes to hours, lorries on the next lane, noise, the
/// temperature of day and night, and the sensor's ageing.
struct Month {
    random: Random,
    seed: u64,
    /// Until when the present car or gap lasts, and whether a car is there.
    until_s: u64,
    car: Option<Field>,
    lorry: Option<(u64, Field)>,
}

/// How much of the field a vehicle bends, in some direction.
fn bend(random: &mut Random, least_nt: f32, most_nt: f32) -> Field {
    let part = |random: &mut Random| random.below(2_001) as f32 / 1_000.0 - 1.0;
    let direction = [part(random), part(random), part(random)];
    let length = direction.iter().map(|part| part * part).sum::<f32>().sqrt().max(0.1);
    let strength = least_nt + (most_nt - least_nt) * random.below(1_001) as f32 / 1_000.0;
    direction.map(|part| part / length * strength)
}

impl Month {
    fn new(seed: u64) -> Month {
        Month { random: Random::seeded(seed), seed, until_s: 600, car: None, lorry: None }
    }

    /// The field at a second, and whether a car is there.
    fn at(&mut self, second: u64) -> (Field, bool) {
        if second >= self.until_s {
            let random = &mut self.random;
            self.car = if self.car.is_some() { None } else { Some(bend(random, 4_000.0, 25_000.0)) };
            self.until_s =
                second + 120 + random.below(if self.car.is_some() { 4 * 3_600 } else { 3 * 3_600 });
        }
        if self.lorry.is_none() && self.random.below(900) == 0 {
            self.lorry = Some((second + 3 + self.random.below(4), bend(&mut self.random, 1_000.0, 3_500.0)));
        }
        self.lorry = self.lorry.filter(|(until, _)| second < *until);
        let day = second as f32 / 86_400.0;
        let warmth = (day * std::f32::consts::TAU).sin() + 0.3 * (day / 7.0 * std::f32::consts::TAU).sin();
        let earth = [21_000.0, -3_000.0, 41_000.0];
        let drift = [900.0 * warmth + 20.0 * day, -700.0 * warmth - 30.0 * day, 400.0 * warmth + 10.0 * day];
        let mut field = [0.0; 3];
        for axis in 0..3 {
            let noise = (mixed(self.seed ^ (second * 3 + axis as u64)) % 401) as f32 - 200.0;
            let vehicles =
                self.car.map_or(0.0, |car| car[axis]) + self.lorry.map_or(0.0, |(_, lorry)| lorry[axis]);
            field[axis] = earth[axis] + drift[axis] + noise + vehicles;
        }
        (field, self.car.is_some())
    }
}

#[test]
fn month_with_drift_heat_and_lorries_is_told_right_in_99_of_100_seconds() {
    const MONTH_S: u64 = 30 * 86_400;
    // [is][says]
    let mut table = [[0u64; 2]; 2];
    for seed in 1..=3 {
        let (mut month, mut detector) = (Month::new(seed), Detector::new(Thresholds::default()));
        for second in 0..MONTH_S {
            let (field, is_taken) = month.at(second);
            if let Some(says) = detector.push(Instant::from_secs(second), field) {
                table[usize::from(is_taken)][usize::from(says)] += 1;
            }
        }
    }
    let [[free_free, free_taken], [taken_free, taken_taken]] = table;
    println!("seconds of three months      says free   says taken");
    println!("is free                   {free_free:>12} {free_taken:>12}");
    println!("is taken                  {taken_free:>12} {taken_taken:>12}");
    let right = (free_free + taken_taken) as f64 / table.iter().flatten().sum::<u64>() as f64;
    println!("right: {:.3} %", 100.0 * right);
    assert!(right >= 0.99, "{table:?}");
    assert!(free_free > 0 && taken_taken > MONTH_S / 4, "both happen: {table:?}");
}

/// A magnetometer that says what it is told.
struct Told(std::rc::Rc<std::cell::Cell<f32>>);

impl Magnetometer for Told {
    fn read(&mut self) -> Option<(Field, Option<f32>)> {
        let bent = self.0.get();
        bent.is_finite().then_some(([20_000.0 + bent, 0.0, 40_000.0], Some(18.5)))
    }
}

#[test]
fn bay_reports_changes_and_its_heartbeat_and_a_lorry_is_no_change() {
    let bent = std::rc::Rc::new(std::cell::Cell::new(0.0));
    let mut bay = Bay::new(Told(bent.clone()), Thresholds::default(), Duration::from_secs(600));
    let mut reports = Vec::new();
    for second in 0..1_000u64 {
        bent.set(match second {
            // A lorry for six seconds, a car for four minutes, a chip that does not answer.
            50..56 => 3_000.0,
            100..340 => 8_000.0,
            400..410 => f32::NAN,
            _ => 0.0,
        });
        match bay.sample(&moment(second * 1_000)) {
            Ok(Some(report)) => reports.push((second, report.occupied_spaces)),
            Ok(None) => {}
            Err(_) => assert!((400..410).contains(&second)),
        }
    }
    // Calibrated after 16 samples; eight seconds of doubt at each change; ten minutes after the last report.
    assert_eq!(reports, [(15, 0), (108, 1), (348, 0), (948, 0)]);
}
