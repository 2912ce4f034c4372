//! Those who go on: one reading after the other, and how long each waited for its acknowledgement.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Config,
    found::{Check, reading},
    wire::{self, Wire},
};

/// From one acknowledgement to the next reading.
const PAUSE: Duration = Duration::from_millis(20);

/// Their numbers lie beyond those of the crowd.
const NUMBER_FIRST: usize = 1_000_000;

/// One of them.
pub struct Steady {
    number: usize,
    acknowledged: Vec<bool>,
    waits: Vec<Duration>,
    /// When the last acknowledgement came, or it began.
    last: Instant,
    longest: Duration,
    broken: usize,
}

/// How long they waited.
#[derive(Debug, Default)]
pub struct Waits {
    /// From a publish to its acknowledgement, sorted.
    pub each: Vec<Duration>,
    /// The longest time in which one of them heard nothing.
    pub longest: Duration,
    /// Connections that broke.
    pub broken: usize,
    /// Of them, those that never heard anything.
    pub unheard: usize,
}

impl Waits {
    /// The wait that so many of a thousand did not exceed.
    pub fn permille(&self, permille: usize) -> Duration {
        let at = (self.each.len() * permille / 1_000).min(self.each.len().saturating_sub(1));
        self.each.get(at).copied().unwrap_or_default()
    }
}

/// Starts them.
pub fn start(config: &Config, over: &CancellationToken) -> Vec<JoinHandle<Steady>> {
    (0..config.steady)
        .map(|number| {
            let (mqtt, over) = (config.mqtt, over.clone());
            tokio::spawn(async move {
                let (acknowledged, waits) = (Vec::new(), Vec::new());
                let (last, longest, broken) = (Instant::now(), Duration::ZERO, 0);
                let number = NUMBER_FIRST + number;
                let mut one = Steady { number, acknowledged, waits, last, longest, broken };
                let going_on = async {
                    loop {
                        if go_on(&mut one, mqtt).await.is_err() {
                            one.broken += 1;
                        }
                        sleep(PAUSE).await;
                    }
                };
                let _ = over.run_until_cancelled(going_on).await;
                one.longest = one.longest.max(one.last.elapsed());
                one
            })
        })
        .collect()
}

/// Adds up what they saw.
pub async fn stop(all: Vec<JoinHandle<Steady>>, check: &mut Check) -> anyhow::Result<Waits> {
    let mut waits = Waits::default();
    for one in all {
        let one = one.await?;
        waits.longest = waits.longest.max(one.longest);
        waits.broken += one.broken;
        waits.unheard += usize::from(one.waits.is_empty());
        waits.each.extend(one.waits);
        check.expect("steady", &device(one.number), one.acknowledged);
    }
    waits.each.sort_unstable();
    Ok(waits)
}

fn device(number: usize) -> String {
    format!("steady-{number}")
}

async fn go_on(one: &mut Steady, mqtt: SocketAddr) -> io::Result<()> {
    let mut wire = Wire::introduce(mqtt, 5, &device(one.number), 60).await?;
    let topic = format!("city/v1/steady/fleet/{}", device(one.number));
    loop {
        let began = Instant::now();
        // One that was not acknowledged goes out again.
        let at = one.acknowledged.iter().position(|acknowledged| !acknowledged).unwrap_or_else(|| {
            one.acknowledged.push(false);
            one.acknowledged.len() - 1
        });
        wire.send(&wire::publish(5, 1, &topic, &reading(one.number, at))).await?;
        let (kind, body) = wire.receive().await?;
        if kind != 0x40 || body.get(2).is_some_and(|reason| *reason != 0) {
            return Err(io::Error::other(format!("no acknowledgement: {kind:#x} {body:?}")));
        }
        one.acknowledged[at] = true;
        one.waits.push(began.elapsed());
        one.longest = one.longest.max(one.last.elapsed());
        one.last = Instant::now();
        sleep(PAUSE).await;
    }
}
