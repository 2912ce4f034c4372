//! A vehicle that meets its network in the depot only, and what a fix takes on the wire.

use embassy_time::{Duration, with_timeout};
use zeugma_firmware::{
    batch::Format,
    clock::Moment,
    device::{Device, Settings},
    outbox::{Outbox, Room},
    random::Random,
    schedule::Pace,
    sensor::{Missing, Sensor},
};
use zeugma_schemas::domains::Fleet;

use super::{
    Bench,
    nor::Nor,
    peer::{Answer, Broker},
    settings,
    time::block_on,
};

/// Fixes of a bus in service, with all that a tracker says of one.
struct Fixes(u32);

impl Sensor for Fixes {
    type Reading = Fleet;

    fn sample(&mut self, _now: &Moment) -> Result<Option<Fleet>, Missing> {
        self.0 += 1;
        Ok(Some(Fleet {
            latitude: 38.9 + f64::from(self.0) * 1e-6,
            longitude: 22.4,
            speed_kmh: Some(36.0),
            heading_deg: Some(90.0),
            ignition: Some(true),
            odometer_m: Some(f64::from(self.0) * 100.0),
            satellites: Some(9),
            ..Fleet::default()
        }))
    }
}

const EVERY_10_S: Duration = Duration::from_secs(10);

fn bus() -> Settings<'static> {
    Settings { device: "bus-001", format: Format::Avro, ..settings(Pace::Every(EVERY_10_S), None) }
}

/// Bytes of the publishes of fixes, and how many fixes they held: a frame's mark tells one.
fn on_the_wire(broker: &Broker) -> (usize, usize) {
    let peer = broker.0.borrow();
    let fixes = peer.arrivals.iter().filter(|arrival| arrival.topic.contains("fleet"));
    let frames = |payload: &[u8]| payload.windows(10).filter(|at| at[..10] == FRAME).count();
    fixes.fold((0, 0), |(bytes, count), fix| (bytes + fix.wire_bytes, count + frames(&fix.payload)))
}

/// How a frame of `fleet.avsc` begins: Avro's mark and the schema's fingerprint.
const FRAME: [u8; 10] = [0xc3, 0x01, 0x35, 0x5f, 0x18, 0x22, 0xb4, 0x9e, 0x3f, 0x8a];

#[test]
fn bus_that_meets_its_network_in_the_depot_keeps_a_day_and_delivers_it_on_arrival() {
    const DAY_S: u64 = 86_400;
    let broker = Broker::new(|_, _| Answer::Accept);
    broker.0.borrow_mut().unreachable = usize::MAX;
    let (mut room, mut buffers, mut bench) = (Room::<32, 3072>::new(), Default::default(), Bench::default());
    // A megabyte, of which two pages of settings are for others.
    let nor = Nor::new(1024 * 1024 / super::nor::PAGE_BYTES - 8);
    block_on(async {
        let outbox = Outbox::open(nor, 0, &mut room).await.expect("flash");
        let mut device = Device::new(&bus(), Fixes(0), outbox, Random::seeded(3)).expect("a name");
        let mut dial = broker.clone();
        let day = device.run(&mut dial, &mut bench, std::future::pending(), &mut buffers);
        assert!(with_timeout(Duration::from_secs(DAY_S), day).await.is_err());
        assert!(device.outbox_len() >= 8_640, "{} readings", device.outbox_len());
        broker.0.borrow_mut().unreachable = 0;
        let evening = device.run(&mut dial, &mut bench, std::future::ready(()), &mut buffers);
        with_timeout(Duration::from_secs(600), evening).await.expect("all is delivered within ten minutes");
        assert_eq!(device.outbox_len(), 0);
    });
    assert_eq!((bench.dropped, bench.acknowledged), (0, bench.taken));
    let (bytes, fixes) = on_the_wire(&broker);
    println!("flushed: {} bytes on the wire for each of {fixes} fixes", bytes.div_ceil(fixes));
    assert!((8_640..8_650).contains(&fixes), "{fixes}");
    assert!(bytes <= 110 * fixes, "{bytes} bytes");
}

#[test]
fn fix_that_travels_alone_takes_at_most_110_bytes() {
    let broker = Broker::new(|_, _| Answer::Accept);
    let (mut room, mut buffers) = (Room::<32, 3072>::new(), Default::default());
    let outbox = Outbox::in_ram(&mut room, 1, 1_000_000);
    let settings = Settings { readings_max: Some(100), ..bus() };
    let mut device = Device::new(&settings, Fixes(0), outbox, Random::seeded(3)).expect("a name");
    block_on(device.run(&mut broker.clone(), &mut Bench::default(), std::future::pending(), &mut buffers));
    let (bytes, fixes) = on_the_wire(&broker);
    println!("one at a time: {} bytes on the wire for each of {fixes} fixes", bytes.div_ceil(fixes));
    assert!(fixes > 80 && bytes <= 110 * fixes, "{bytes} bytes for {fixes}");
}
