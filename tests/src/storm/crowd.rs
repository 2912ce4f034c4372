//! Those who come back: each dials at the same moment, flushes what it kept, and tries again until it could.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    Config,
    found::{Check, reading},
    wire::{self, Wire},
};

/// A connection on which no acknowledgement comes for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Pauses between dials: from, to.
const PAUSES_MS: (u64, u64) = (100, 5_000);

/// Counted by all.
#[derive(Debug, Default)]
pub struct Tally {
    /// Dials.
    pub dials: AtomicU64,
    /// Dials that were refused or broke before everything was delivered.
    pub broken: AtomicU64,
}

/// What they delivered.
pub struct Crowd {
    /// What was acknowledged.
    pub check: Check,
    /// How many readings that is.
    pub delivered: usize,
    /// Their dials.
    pub tally: Arc<Tally>,
}

/// One device and what it keeps.
struct Returning {
    number: usize,
    tenant: String,
    device: String,
    acknowledged: Vec<bool>,
}

/// Lets them come at once, and waits until each has delivered everything, or the time is over.
pub async fn come_back(config: &Config) -> anyhow::Result<Crowd> {
    let tally = Arc::new(Tally::default());
    let (go, gone) = watch::channel(false);
    let until = Instant::now() + config.at_most;
    let each = |number: usize| Returning {
        number,
        tenant: format!("town-{}", number % config.tenants.max(1)),
        device: format!("storm-{number}"),
        acknowledged: vec![false; config.each],
    };
    let flushing: Vec<_> = (0..config.connections)
        .map(|number| {
            let (mqtt, tally, mut gone, mut device) =
                (config.mqtt, tally.clone(), gone.clone(), each(number));
            tokio::spawn(async move {
                let _ = gone.wait_for(|gone| *gone).await;
                let _ = timeout_at(until, deliver(&mut device, mqtt, &tally)).await;
                device
            })
        })
        .collect();
    go.send_replace(true);
    let (mut check, mut delivered) = (Check::default(), 0);
    for device in flushing {
        let device = device.await?;
        delivered += device.acknowledged.iter().filter(|acknowledged| **acknowledged).count();
        check.expect(&device.tenant, &device.device, device.acknowledged);
    }
    Ok(Crowd { check, delivered, tally })
}

/// Dials until everything is delivered.
async fn deliver(device: &mut Returning, mqtt: std::net::SocketAddr, tally: &Tally) {
    let mut pause_ms = PAUSES_MS.0;
    loop {
        tally.dials.fetch_add(1, Relaxed);
        if flush(device, mqtt).await.is_ok() {
            return;
        }
        tally.broken.fetch_add(1, Relaxed);
        // Spread by the device's number, so that they do not all come back together for ever.
        let spread = (device.number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
        sleep(Duration::from_millis(pause_ms + spread * pause_ms / 1_024)).await;
        pause_ms = (pause_ms * 2).min(PAUSES_MS.1);
    }
}

/// One connection: everything that is not acknowledged, at once.
async fn flush(device: &mut Returning, mqtt: std::net::SocketAddr) -> io::Result<()> {
    let version = if device.number.is_multiple_of(2) { 4 } else { 5 };
    let mut wire = Wire::introduce(mqtt, version, &device.device, 60).await?;
    let topic = format!("city/v1/{}/fleet/{}", device.tenant, device.device);
    let waiting = device.acknowledged.iter().enumerate().filter(|(_, acknowledged)| !**acknowledged);
    let packets: Vec<u8> = waiting
        .flat_map(|(at, _)| wire::publish(version, at as u16 + 1, &topic, &reading(device.number, at)))
        .collect();
    timeout(SILENCE_MAX, wire.send_and_read(&packets)).await??;
    while device.acknowledged.contains(&false) {
        let (kind, body) = timeout(SILENCE_MAX, wire.receive()).await??;
        if kind != 0x40 || body.get(2).is_some_and(|reason| *reason != 0) {
            return Err(io::Error::other(format!("no acknowledgement: {kind:#x} {body:?}")));
        }
        let id = usize::from(u16::from_be_bytes([body[0], body[1]]));
        device.acknowledged[id - 1] = true;
    }
    wire.send(&[0xe0, 0]).await
}
