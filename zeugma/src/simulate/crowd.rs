//! Threads that let the devices live: a few, each with a runtime of its own and many devices as local tasks.

use std::{cell::Cell, io, rc::Rc, sync::Arc, thread, time::Duration};

use tokio::{sync::oneshot, task::LocalSet, time::sleep};
use tokio_util::sync::CancellationToken;
use zeugma_firmware::{
    device::{Buffers, Device, Settings},
    outbox::{Outbox, Room},
    random::Random,
    sensor::Sensor,
    simulated::{connectivity::Hotspot, energy::Meter, fleet::Vehicle, parking::CarPark},
};

use super::{
    board::{Desk, Way},
    plan::{Kind, Order},
    tally::Tally,
};

/// A device keeps 256 readings in 16 KiB: eight minutes of one in five seconds, of the longest Avro readings more
/// than 100, and several windows of an eager one. With the rest of a device some 35 KB: 5,000 take 175 MB.
const RECORDS: usize = 256;
const BYTES: usize = 16 * 1024;

/// Threads; more would only take cores from the server that is tried.
const THREADS_MAX: usize = 4;

/// After a stop, a connected device may still deliver for so long.
const GRACE: Duration = Duration::from_secs(5);

/// A watcher wants to see the city back soon after the broker is.
const PAUSE_MAX: embassy_time::Duration = embassy_time::Duration::from_secs(5);

/// Starts the threads; each answers when all its devices are done.
pub fn start(
    orders: Vec<Order>,
    tally: &Arc<Tally>,
    stop: &CancellationToken,
) -> io::Result<Vec<oneshot::Receiver<()>>> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let count = cores.clamp(1, THREADS_MAX).min(orders.len());
    let mut hands: Vec<Vec<Order>> = vec![Vec::new(); count];
    for (i, order) in orders.into_iter().enumerate() {
        hands[i % count].push(order);
    }
    let start_one = |orders: Vec<Order>| {
        let (done, ended) = oneshot::channel();
        let (tally, stop) = (tally.clone(), stop.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("devices".into()).spawn(move || {
            LocalSet::new().block_on(&runtime, live_all(orders, tally, stop));
            // Whoever asked may have stopped listening.
            let _ = done.send(());
        })?;
        Ok(ended)
    };
    hands.into_iter().map(start_one).collect()
}

async fn live_all(orders: Vec<Order>, tally: Arc<Tally>, stop: CancellationToken) {
    let way = Way::new(tally.mqtt());
    let lives: Vec<_> = orders
        .into_iter()
        .map(|order| tokio::task::spawn_local(live(order, way.clone(), tally.clone(), stop.clone())))
        .collect();
    for life in lives {
        life.await.expect("a device does not panic");
    }
}

async fn live(order: Order, way: Way, tally: Arc<Tally>, stop: CancellationToken) {
    let seed = order.seed;
    match order.kind {
        Kind::Meter => live_with(order, Meter::new(seed), way, tally, stop).await,
        Kind::CarPark => live_with(order, CarPark::new(seed), way, tally, stop).await,
        Kind::Hotspot => live_with(order, Hotspot::new(seed), way, tally, stop).await,
        Kind::Bus => {
            let vehicle = Vehicle::new(seed, order.town.centre);
            live_with(order, vehicle, way, tally, stop).await;
        }
    }
}

async fn live_with<S: Sensor>(
    order: Order,
    sensor: S,
    mut way: Way,
    tally: Arc<Tally>,
    stop: CancellationToken,
) {
    let settings = Settings {
        tenant: &order.town.name,
        device: &order.device,
        login: None,
        format: order.format,
        pace: order.pace,
        health_every: embassy_time::Duration::from_micros(order.health_every.as_micros() as u64),
        readings_max: order.readings_max,
        pause_max: PAUSE_MAX,
    };
    let (mut room, mut buffers) = (Room::<RECORDS, BYTES>::new(), Buffers::new());
    let outbox = Outbox::in_ram(&mut room, 1, 0);
    let device = Device::new(&settings, sensor, outbox, Random::seeded(order.seed));
    let mut device = device.expect("the plan gives valid names");
    let connected = Rc::new(Cell::new(false));
    let mut desk = Desk::new(tally, order.town.zone, order.seed, connected.clone());
    tokio::select! {
        () = device.run(&mut way, &mut desk, stop.cancelled(), &mut buffers) => {}
        () = grace_over(&stop, &connected) => {}
    }
}

/// Ends a while after `stop`: at once without a connection, for nothing could be delivered.
async fn grace_over(stop: &CancellationToken, connected: &Cell<bool>) {
    const LOOK: Duration = Duration::from_millis(50);
    stop.cancelled().await;
    let mut left = GRACE;
    while connected.get() && !left.is_zero() {
        sleep(LOOK).await;
        left = left.saturating_sub(LOOK);
    }
}
