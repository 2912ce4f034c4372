//! The peer: a rumqttc client in a process of its own that does nothing but acknowledge.

use std::{io::Write, net::SocketAddr, time::Duration};

use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};

/// Said on standard output once the subscription stands.
pub const READY: &str = "ready";

/// Said once all readings have come.
pub const DONE: &str = "done";

/// Subscribes, and acknowledges (as the library does by itself) until `count` readings have come.
pub fn run(addr: SocketAddr, count: u64) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(receive(addr, count))
}

async fn receive(addr: SocketAddr, count: u64) -> anyhow::Result<()> {
    let mut options = MqttOptions::new("subscriber", addr.ip().to_string(), addr.port());
    options.set_keep_alive(Duration::from_secs(60));
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut events) = AsyncClient::new(options, 16);
    client.subscribe("city/v1/#", QoS::AtLeastOnce).await?;
    let (mut came, mut acknowledged) = (0u64, 0u64);
    // Until its acknowledgement is written too, the last one is not done.
    while came < count || acknowledged < count {
        match events.poll().await? {
            Event::Incoming(Incoming::SubAck(_)) => say(READY)?,
            Event::Incoming(Incoming::Publish(_)) => came += 1,
            Event::Outgoing(rumqttc::Outgoing::PubAck(_)) => acknowledged += 1,
            _ => {}
        }
    }
    say(DONE)
}

fn say(word: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word}")?;
    Ok(out.flush()?)
}
