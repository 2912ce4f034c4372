//! An MQTT client that publishes and waits for its acknowledgement.

use std::{net::SocketAddr, sync::atomic::AtomicU32, time::Duration};

use anyhow::{Context, bail};
use rumqttc::v5::{
    AsyncClient, Event, EventLoop, Incoming, MqttOptions,
    mqttbytes::{
        QoS,
        v5::{PubAckReason, SubscribeReasonCode},
    },
};

use crate::city::PATIENCE;

/// Publishes that may wait for the client at once.
const REQUESTS_MAX: usize = 10_000;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// One connection, MQTT 5, QoS 1.
pub struct Device {
    client: AsyncClient,
    events: EventLoop,
}

impl Device {
    /// Connects, and waits until the other side has answered.
    pub async fn connect(addr: SocketAddr) -> Device {
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut options = MqttOptions::new(format!("device-{number}"), addr.ip().to_string(), addr.port());
        options.set_keep_alive(Duration::from_secs(30));
        options.set_max_packet_size(Some(1 << 20));
        let (client, events) = AsyncClient::new(options, REQUESTS_MAX);
        let mut device = Device { client, events };
        device.wait(|event| matches!(event, Incoming::ConnAck(_)).then_some(())).await.expect("a connection");
        device
    }

    /// Publishes and waits for the acknowledgement's reason.
    pub async fn publish(
        &mut self,
        topic: &str,
        payload: impl Into<Vec<u8>>,
    ) -> anyhow::Result<PubAckReason> {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload.into()).await?;
        self.wait(|event| match event {
            Incoming::PubAck(ack) => Some(ack.reason),
            _ => None,
        })
        .await
    }

    /// Publishes many payloads to a topic and waits until all are acknowledged.
    pub async fn publish_all(&mut self, topic: &str, payloads: Vec<Vec<u8>>) -> anyhow::Result<()> {
        // What is handed to the client waits in its channel until somebody polls, so it must find room there.
        for payloads in payloads.chunks(REQUESTS_MAX) {
            for payload in payloads {
                self.client.publish(topic, QoS::AtLeastOnce, false, payload.clone()).await?;
            }
            for _ in payloads {
                self.wait(|event| matches!(event, Incoming::PubAck(_)).then_some(())).await?;
            }
        }
        Ok(())
    }

    /// Subscribes, and answers what the other side thinks of it.
    pub async fn subscribe(&mut self, filter: &str) -> anyhow::Result<Vec<SubscribeReasonCode>> {
        self.client.subscribe(filter, QoS::AtLeastOnce).await?;
        self.wait(|event| match event {
            Incoming::SubAck(ack) => Some(ack.return_codes.clone()),
            _ => None,
        })
        .await
    }

    async fn wait<T>(&mut self, wanted: impl Fn(&Incoming) -> Option<T>) -> anyhow::Result<T> {
        let found = async {
            loop {
                match self.events.poll().await.context("the connection broke")? {
                    Event::Incoming(Incoming::Disconnect(reason)) => bail!("disconnected: {reason:?}"),
                    Event::Incoming(event) => {
                        if let Some(found) = wanted(&event) {
                            return Ok(found);
                        }
                    }
                    Event::Outgoing(_) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.context("nothing came")?
    }
}
