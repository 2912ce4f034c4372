//! A device against brokers that behave badly, in virtual time: what it took arrives, or is counted as dropped.

mod depot;
#[path = "../outbox/nor.rs"]
mod nor;
mod peer;
mod time;

use std::collections::HashMap;

use embassy_time::{Duration, Instant, Timer};
use zeugma_firmware::{
    batch::Format,
    board::{Board, Event},
    clock::Moment,
    device::{Buffers, Device, Settings},
    flash::NoFlash,
    outbox::{Outbox, Room},
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

    fn sample(&mut self, _now: &Moment) -> Result<Option<Parking>, Missing> {
        self.0 += 1;
        Ok(Some(Parking { occupied_spaces: self.0, ..Parking::default() }))
    }
}

#[derive(Default)]
struct Bench {
    /// The clock is set so long after the start.
    clock_set_after: Duration,
    taken: u64,
    acknowledged: u64,
    refused: u64,
    dropped: u64,
    missing: HashMap<String, u64>,
}

impl Board for Bench {
    fn now(&self) -> Moment {
        let at = Instant::now();
        let time_us =
            (at.as_micros() >= self.clock_set_after.as_micros()).then_some(START_US + at.as_micros() as i64);
        Moment { at, time_us, utc_offset_s: 0 }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Taken(_) => self.taken += 1,
            Event::Acknowledged(count) => self.acknowledged += count as u64,
            Event::Refused(count) => self.refused += count as u64,
            Event::Dropped(count) => self.dropped += count,
            Event::Missing { reason, count } => *self.missing.entry(reason.to_string()).or_default() += count,
            Event::FlashFailed | Event::Connected | Event::Lost(_) => {}
        }
    }
}

fn settings(pace: Pace, readings_max: Option<u64>) -> Settings<'static> {
    Settings {
        tenant: "lamia",
        device: "carpark-001",
        login: None,
        format: Format::Json,
        pace,
        health_every: Duration::from_secs(60),
        readings_max,
        pause_max: Duration::from_secs(60),
    }
}

const EACH_SECOND: Pace = Pace::Every(Duration::from_secs(1));

type Counting = Device<'static, Counter, NoFlash, RECORDS, BYTES>;

/// A device and its buffers, in memory that nobody takes back.
fn device(settings: Settings<'static>) -> (Counting, &'static mut Buffers) {
    let outbox = Outbox::in_ram(Box::leak(Box::default()), 1, 0);
    let device = Device::new(&settings, Counter(0), outbox, Random::seeded(7));
    (device.expect("names are valid"), Box::leak(Box::default()))
}

/// Runs a device that takes `count` readings at `pace`, until all are acknowledged.
fn run(broker: &Broker, pace: Pace, count: u64) -> Bench {
    let mut bench = Bench::default();
    let (mut device, buffers) = device(settings(pace, Some(count)));
    block_on(device.run(&mut broker.clone(), &mut bench, std::future::pending(), buffers));
    assert_eq!(device.outbox_len(), 0);
    bench
}

/// Sequence numbers of the readings, repeats left out, in order of first arrival.
fn seqs(readings: &[String]) -> Vec<u64> {
    let mut seqs = Vec::new();
    for reading in readings {
        let seq = number(reading, "seq") as u64;
        if !seqs.contains(&seq) {
            seqs.push(seq);
        }
    }
    seqs
}

/// A field of a reading in JSON.
fn number(reading: &str, field: &str) -> i64 {
    let start = reading.find(&format!("\"{field}\":")).expect("the field") + field.len() + 3;
    let digits = reading[start..].split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).expect("a number")
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
    let (mut device, buffers) = device(settings(EACH_SECOND, None));
    let hour = Timer::after(Duration::from_secs(1_800));
    block_on(async {
        let mut dial = broker.clone();
        let running = device.run(&mut dial, &mut bench, hour, buffers);
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
    let (mut device, buffers) = device(settings(EACH_SECOND, None));
    let day = Duration::from_secs(86_400);
    let lived = embassy_time::with_timeout(day, async {
        device.run(&mut broker.clone(), &mut bench, std::future::pending(), buffers).await;
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
    let (mut device, buffers) = device(settings(EACH_SECOND, Some(50)));
    let running = embassy_time::with_timeout(Duration::from_secs(600), async {
        device.run(&mut broker.clone(), &mut bench, std::future::pending(), buffers).await;
    });
    let _ = block_on(running);
    assert!(broker.0.borrow().arrivals.len() >= 4);
    assert_eq!(device.outbox_len() as u64 + bench.acknowledged + bench.dropped, bench.taken);
    assert_eq!(bench.acknowledged, 50, "publishes without an answer are sent again on a new connection");
}

#[test]
fn readings_are_held_back_until_the_clock_is_set_and_then_have_the_time_at_which_they_were_taken() {
    let broker = Broker::new(|_, _| Answer::Accept);
    let mut bench = Bench { clock_set_after: Duration::from_secs(30), ..Bench::default() };
    let (mut device, buffers) = device(settings(EACH_SECOND, Some(50)));
    block_on(device.run(&mut broker.clone(), &mut bench, std::future::pending(), buffers));
    assert_eq!((bench.taken, bench.acknowledged, bench.dropped), (50, 50, 0));
    let arrivals = &broker.0.borrow().arrivals;
    let first_s = (arrivals[0].at - Instant::MIN).as_secs();
    assert!((30..33).contains(&first_s), "nothing leaves before its time is known: {first_s}");
    let times: Vec<i64> = broker.accepted("parking").iter().map(|reading| number(reading, "time")).collect();
    assert!(times.iter().all(|us| (START_US..START_US + 60_000_000).contains(us)), "{times:?}");
    assert!(times.windows(2).all(|pair| (999_000..1_001_000).contains(&(pair[1] - pair[0]))), "{times:?}");
}

#[test]
fn clock_that_is_never_set_lets_no_reading_go() {
    let broker = Broker::new(|_, _| Answer::Accept);
    let mut bench = Bench { clock_set_after: Duration::MAX, ..Bench::default() };
    let (mut device, buffers) = device(settings(EACH_SECOND, None));
    let hour = Duration::from_secs(3_600);
    let lived = embassy_time::with_timeout(hour, async {
        device.run(&mut broker.clone(), &mut bench, std::future::pending(), buffers).await;
    });
    assert!(block_on(lived).is_err());
    assert_eq!((broker.0.borrow().arrivals.len(), device.outbox_len()), (0, RECORDS));
    assert_eq!(RECORDS as u64 + bench.dropped, bench.taken);
}

#[test]
fn stopped_device_delivers_what_it_has_and_ends() {
    let broker = Broker::new(|_, _| Answer::Accept);
    broker.0.borrow_mut().unreachable = 6;
    let mut bench = Bench::default();
    let (mut device, buffers) = device(settings(EACH_SECOND, None));
    block_on(device.run(&mut broker.clone(), &mut bench, Timer::after(Duration::from_secs(10)), buffers));
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
fn device_tells_the_broker_who_it_is_where_it_has_a_login() {
    for login in [None, Some(("meter-7", &b"a secret"[..]))] {
        let broker = Broker::new(|_, _| Answer::Accept);
        let (mut device, buffers) = device(Settings { login, ..settings(EACH_SECOND, Some(3)) });
        block_on(device.run(&mut broker.clone(), &mut Bench::default(), std::future::pending(), buffers));
        let connect = broker.0.borrow().connects[0].clone();
        let says = |what: &[u8]| connect.windows(what.len()).any(|part| part == what);
        assert_eq!((says(b"\0\x07meter-7"), says(b"\0\x08a secret")), (login.is_some(), login.is_some()));
    }
}

#[test]
fn names_that_no_topic_can_carry_are_refused() {
    let bad = Settings { device: "car/park", ..settings(EACH_SECOND, None) };
    let mut room = Room::<RECORDS, BYTES>::new();
    let outbox = Outbox::in_ram(&mut room, 1, 0);
    assert!(Device::new(&bad, Counter(0), outbox, Random::seeded(1)).is_err());
    assert_eq!(Channel::ALL.len(), 2);
}
