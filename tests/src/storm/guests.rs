//! Those who behave badly: each kind in one way, and again as soon as it was thrown out.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Config,
    wire::{self, Wire},
};

/// Between two visits of one guest.
const PAUSE: Duration = Duration::from_millis(500);

/// How they behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Dials and says nothing.
    HalfOpen,
    /// Introduces itself with a keep-alive of 5 s and says nothing more.
    Silent,
    /// Sends a publish a byte a second.
    Slow,
    /// Sends what is no MQTT.
    Garbage,
    /// Announces a packet of 256 MiB.
    Boastful,
    /// Sends all but the end of a large payload.
    Hoarding,
    /// Publishes and never reads an answer.
    Deaf,
}

/// All of them.
pub const KINDS: [Kind; 7] =
    [Kind::HalfOpen, Kind::Silent, Kind::Slow, Kind::Garbage, Kind::Boastful, Kind::Hoarding, Kind::Deaf];

/// What they saw.
#[derive(Debug, Default)]
pub struct Visits {
    /// Visits, by kind.
    pub begun: [AtomicU64; KINDS.len()],
    /// Visits that the server ended or refused, by kind.
    pub ended: [AtomicU64; KINDS.len()],
}

/// Lets them come; they stay until it is over.
pub fn come(config: &Config, visits: &Arc<Visits>, over: &CancellationToken) -> Vec<JoinHandle<()>> {
    let all = KINDS.iter().enumerate().flat_map(|(at, kind)| (0..config.guests).map(move |n| (at, *kind, n)));
    all.map(|(at, kind, number)| {
        let (mqtt, visits, over) = (config.mqtt, visits.clone(), over.clone());
        tokio::spawn(async move {
            let staying = async {
                loop {
                    visits.begun[at].fetch_add(1, Relaxed);
                    // Being refused and being thrown out are the same to them.
                    let _ = visit(kind, mqtt, number).await;
                    visits.ended[at].fetch_add(1, Relaxed);
                    sleep(PAUSE).await;
                }
            };
            let _ = over.run_until_cancelled(staying).await;
        })
    })
    .collect()
}

/// One visit, until the server ends it.
async fn visit(kind: Kind, mqtt: SocketAddr, number: usize) -> io::Result<()> {
    let (id, topic) = (format!("{kind:?}-{number}"), format!("city/v1/nowhere/fleet/{kind:?}-{number}"));
    let mut wire = match kind {
        Kind::HalfOpen | Kind::Garbage => Wire::dial(mqtt).await?,
        _ => Wire::introduce(mqtt, 4, &id, 5).await?,
    };
    match kind {
        Kind::HalfOpen | Kind::Silent => {}
        Kind::Garbage => wire.send(&noise(number)).await?,
        Kind::Boastful => wire.send(&[&[0x82, 0xff, 0xff, 0xff, 0x7f][..], &[0; 32 * 1024]].concat()).await?,
        Kind::Slow => {
            for byte in wire::publish(4, 1, &topic, &[b'x'; 1_000]) {
                wire.send(&[byte]).await?;
                sleep(Duration::from_secs(1)).await;
            }
        }
        Kind::Hoarding => {
            let large = wire::publish(4, 1, &topic, &vec![b'x'; 256 * 1024]);
            wire.send(&large[..large.len() - 1]).await?;
        }
        Kind::Deaf => loop {
            // No domain knows this content; what is kept of it is a dead letter.
            let some: Vec<u8> = (1..=20).flat_map(|id| wire::publish(4, id, &topic, b"deaf")).collect();
            wire.send(&some).await?;
            sleep(Duration::from_secs(1)).await;
        },
    }
    wire.closed().await;
    Ok(())
}

/// Bytes that differ from guest to guest.
fn noise(number: usize) -> Vec<u8> {
    let mut state = number as u64 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..4_096).map(|_| next()).collect()
}
