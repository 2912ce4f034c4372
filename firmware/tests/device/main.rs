//! A device against brokers that behave badly, in virtual time: what it took arrives, or is counted as dropped.

mod peer;
mod time;

use std::collections::HashMap;

use embassy_time::{Duration, Instant, Timer};
use zeugma_firmware::{
    batch::Format,
    board::{Board, Event},
    clock::Moment,
    device::{Device, Settings},
    random::Random,
    schedule::{Channel, Pace},
    sensor::{Missing, Sensor},
};
use zeugma_schemas::domains::Parking;

use peer::{Answer, Broker, objects};
use time::block_on;

const RECORDS: usize = 64;
const BYTES: usize = 8 * 1024;
const START_US: i64 = 1_790_000_000_000_000;

/// Counts its samples.
struct Counter(i32);

impl Sensor for Counter {
    type Reading = Parking;

    fn sample(&mut self, _time_us: i64, _utc_offset_s: i32) -> Result<Parking, Missing> {
        self.0 += 1;
        Ok(Parking { occupied_spaces: self.0, ..Parking::default() })
    }
}

#[derive(Default)]
struct Bench {
    clock_unset: bool,
    taken: u64,
    acknowledged: u64,
    refused: u64,
    dropped: u64,
    missing: HashMap<String, u64>,
}

impl Board for Bench {
    fn now(&self) -> Moment {
        let at = Instant::now();
        let time_us = (!self.clock_unset).then_some(START_US + at.as_micros() as i64);
        Moment { at, time_us, utc_offset_s: 0 }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Taken(_) => self.taken += 1,
            Event::Acknowledged(count) => self.acknowledged += count as u64,
            Event::Refused(count) => self.refused += count as u64,
            Event::Dropped(count) => self.dropped += count,
            Event::Missing { reason, count } => *self.missing.entry(reason.to_string()).or_default() += count,
            Event::Connected | Event::Lost(_) => {}
        }
    }
}

fn settings(pace: Pace, readings_max: Option<u64>) -> Settings<'static> {
    Settings {
        tenant: "lamia",
        device: "carpark-001",
        format: Format::Json,
        pace,
        health_every: Duration::from_secs(60),
        boot: 1,
        seq_first: 0,
        readings_max,
        pause_max: Duration::from_secs(60),
    }
}

const EACH_SECOND: Pace = Pace::Every(Duration::from_secs(1));

fn device(settings: Settings<'_>) -> Device<Counter, RECORDS, BYTES> {
    Device::new(&settings, Counter(0), Random::seeded(7)).expect("names are valid")
}

/// Runs a device that takes `count` readings at `pace`, until all are acknowledged.
fn run(broker: &Broker, pace: Pace, count: u64) -> Bench {
    let mut bench = Bench::default();
    let mut device = device(settings(pace, Some(count)));
    block_on(device.run(&mut broker.clone(), &mut bench, std::future::pending()));
    assert_eq!(device.outbox_len(), 0);
    bench
}

/// Sequence numbers of the readings, repeats left out, in order of first arrival.
fn seqs(readings: &[String]) -> Vec<u64> {
    let mut seqs = Vec::new();
    for reading in readings {
        let field = reading.split(',').find_map(|f| f.strip_prefix("\"seq\":")).expect("a seq");
        let seq = field.parse().expect("a number");
        if !seqs.contains(&seq) {
            seqs.push(seq);
        }
    }
    seqs
}

/// Each (topic, seq) came with the same bytes, however often it came.
fn assert_same_bytes_on_every_retry(broker: &Broker) {
    let mut seen = HashMap::new();
    for arrival in &broker.0.borrow().arrivals {
        for object in objects(&arrival.payload) {
            let key = (arrival.topic.clone(), seqs(std::slice::from_ref(&object))[0]);
            let before = seen.entry(key).or_insert_with(|| object.clone());
            assert_eq!(*before, object);
        }
    }
}

#[test]
fn readings_arrive_once_and_in_order_where_nothing_fails() {
    let broker = Broker::new(|_, _| Answer::Accept);
    let bench = run(&broker, EACH_SECOND, 200);
    let parking = broker.accepted("parking");
    let health = broker.accepted("device_health");
    assert_eq!((bench.taken, bench.acknowledged, bench.dropped, bench.refused), (200, 200, 0, 0));
    assert_eq!(seqs(&parking), (0..parking.len() as u64).collect::<Vec<_>>());
    // One report a minute, the first with the first reading.
    assert_eq!((parking.len(), health.len()), (196, 4));
    assert_eq!((broker.0.borrow().dials, broker.0.borrow().farewells), (1, 1));
    assert!(bench.missing.is_empty());
}

#[test]
fn refused_publish_is_not_delivered_and_is_sent_again() {
    // Every third publish of the readings is refused, by a broker that mends its ways later.
    let broker = Broker::new(|n, topic| match n {
        n if n < 30 && n % 3 == 0 && topic.contains("parking") => Answer::Refuse(0x87),
        _ => Answer::Accept,
    });
    let bench = run(&broker, EACH_SECOND, 100);
    assert!(bench.refused > 0);
    assert_eq!((bench.acknowledged, bench.dropped), (100, 0));
    let (parking, health) = (broker.accepted("parking"), broker.accepted("device_health"));
    assert_eq!(seqs(&parking).len() + seqs(&health).len(), 100);
    assert_same_bytes_on_every_retry(&broker);
}

#[test]
fn channel_that_is_always_refused_does_not_stop_the_other_and_is_tried_ever_less_often() {
    let broker = Broker::new(|_, topic| match topic.contains("device_health") {
        true => Answer::Refuse(0x87),
        false => Answer::Accept,
    });
    let mut bench = Bench::default();
    let mut device = device(settings(EACH_SECOND, None));
    let hour = Timer::after(Duration::from_secs(1_800));
    block_on(async {
        let mut dial = broker.clone();
        let running = device.run(&mut dial, &mut bench, hour);
        // It never finishes, for what is refused is kept.
        assert!(embassy_time::with_timeout(Duration::from_secs(1_810), running).await.is_err());
    });
    assert!(seqs(&broker.accepted("parking")).len() >= 1_799);
    let tries = broker.0.borrow().arrivals.iter().filter(|a| a.topic.contains("health")).count();
    assert!((30..70).contains(&tries), "{tries}");
    assert_eq!(device.outbox_len() as u64, bench.taken - bench.acknowledged);
}

#[test]
fn connection_cut_after_any_byte_loses_nothing() {
    for cut in 1..600 {
        let broker = Broker::new(|_, _| Answer::Accept);
        broker.0.borrow_mut().cuts = [cut, cut / 2 + 40].into();
        let bench = run(&broker, Pace::Eager, 40);
        assert_eq!((bench.acknowledged, bench.dropped), (40, 0), "cut after {cut}");
        let arrived = seqs(&broker.accepted("parking")).len() + seqs(&broker.accepted("health")).len();
        assert_eq!(arrived, 40, "cut after {cut}");
        assert_same_bytes_on_every_retry(&broker);
    }
}

#[test]
fn readings_under_way_survive_a_lost_and_a_resumed_session() {
    for keeps_session in [false, true] {
        let broker = Broker::new(|n, _| match n {
            0..3 => Answer::Silence,
            3 => Answer::Cut,
            _ => Answer::Accept,
        });
        broker.0.borrow_mut().keeps_session = keeps_session;
        let bench = run(&broker, Pace::Eager, 60);
        assert_eq!((bench.acknowledged, bench.dropped), (60, 0));
        assert_same_bytes_on_every_retry(&broker);
        let peer = broker.0.borrow();
        assert_eq!(peer.arrivals[4].dup, keeps_session);
        assert_eq!(peer.arrivals[4].payload, peer.arrivals[0].payload);
    }
}

#[test]
fn full_outbox_drops_the_oldest_and_counts_them() {
    let broker = Broker::new(|_, _| Answer::Accept);
    broker.0.borrow_mut().unreachable = 12;
    let bench = run(&broker, EACH_SECOND, 600);
    assert!(bench.dropped > 0);
    assert_eq!(bench.acknowledged + bench.dropped, 600);
    let parking = seqs(&broker.accepted("parking"));
    assert_eq!(parking.len() + seqs(&broker.accepted("health")).len(), bench.acknowledged as usize);
    // What is missing is the oldest: the rest has no gap.
    assert!(parking.windows(2).all(|pair| pair[1] == pair[0] + 1));
    let told = broker.accepted("health").pop().expect("a report");
    assert!(told.contains(&format!("\"dropped\":{}", bench.dropped)), "{told}");
}

#[test]
fn unreachable_broker_is_dialled_ever_less_often() {
    let broker = Broker::new(|_, _| Answer::Accept);
    broker.0.borrow_mut().unreachable = usize::MAX;
    let mut bench = Bench::default();
    let mut device = device(settings(EACH_SECOND, None));
    let day = Duration::from_secs(86_400);
    let lived = embassy_time::with_timeout(day, async {
        device.run(&mut broker.clone(), &mut bench, std::future::pending()).await;
    });
    assert!(block_on(lived).is_err());
    // Pauses of 30 to 60 s: 1,440 to 2,880 a day.
    assert!((1_440..2_900).contains(&broker.0.borrow().dials), "{}", broker.0.borrow().dials);
    assert!(bench.missing.is_empty(), "sampling went on in time");
    assert_eq!(device.outbox_len() as u64 + bench.dropped, bench.taken);
}

#[test]
fn sampling_goes_on_while_the_broker_does_not_read() {
    let broker = Broker::new(|_, _| Answer::Accept);
    broker.0.borrow_mut().deaf_on_dial = Some(1);
    let bench = run(&broker, EACH_SECOND, 60);
    assert!(bench.missing.is_empty());
    assert_eq!((bench.acknowledged, broker.0.borrow().dials), (60, 2));
}

#[test]
fn silent_broker_is_noticed_and_left() {
    // The first connection never acknowledges; pings are answered, so only the window holds readings back.
    let broker = Broker::new(|n, _| if n < 4 { Answer::Silence } else { Answer::Accept });
    let mut bench = Bench::default();
    let mut device = device(settings(EACH_SECOND, Some(50)));
    let running = embassy_time::with_timeout(Duration::from_secs(600), async {
        device.run(&mut broker.clone(), &mut bench, std::future::pending()).await;
    });
    let _ = block_on(running);
    assert!(broker.0.borrow().arrivals.len() >= 4);
    assert_eq!(device.outbox_len() as u64 + bench.acknowledged + bench.dropped, bench.taken);
    assert_eq!(bench.acknowledged, 50, "publishes without an answer are sent again on a new connection");
}

#[test]
fn clock_that_was_never_set_makes_no_readings() {
    let broker = Broker::new(|_, _| Answer::Accept);
    let mut bench = Bench { clock_unset: true, ..Bench::default() };
    let mut device = device(settings(EACH_SECOND, None));
    block_on(device.run(&mut broker.clone(), &mut bench, Timer::after(Duration::from_secs(30))));
    assert_eq!(bench.taken, 0);
    assert!(bench.missing[&Missing::ClockUnset.to_string()] >= 30);
}

#[test]
fn stopped_device_delivers_what_it_has_and_ends() {
    let broker = Broker::new(|_, _| Answer::Accept);
    broker.0.borrow_mut().unreachable = 6;
    let mut bench = Bench::default();
    let mut device = device(settings(EACH_SECOND, None));
    block_on(device.run(&mut broker.clone(), &mut bench, Timer::after(Duration::from_secs(10))));
    assert!((9..=12).contains(&bench.taken), "{}", bench.taken);
    assert_eq!(bench.acknowledged, bench.taken);
}

#[test]
fn eager_device_takes_no_more_than_it_can_deliver_and_reports_too() {
    let broker = Broker::new(|_, _| Answer::Accept);
    let bench = run(&broker, Pace::Eager, 10_000);
    assert_eq!((bench.taken, bench.acknowledged, bench.dropped), (10_000, 10_000, 0));
    assert_eq!(broker.accepted("health").len(), 1);
    let publishes = broker.0.borrow().arrivals.len();
    assert!(publishes < 10_000 / 8, "several readings travel together: {publishes}");
}

#[test]
fn names_that_no_topic_can_carry_are_refused() {
    let bad = Settings { device: "car/park", ..settings(EACH_SECOND, None) };
    assert!(Device::<_, RECORDS, BYTES>::new(&bad, Counter(0), Random::seeded(1)).is_err());
    assert_eq!(Channel::ALL.len(), 2);
}
