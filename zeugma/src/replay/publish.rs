//! Publishes readings at QoS 1 over one connection with a window of unacknowledged ones; what a broken
//! connection left unacknowledged is sent again, in the same order, over the next.

use std::{collections::VecDeque, pin::pin, time::Duration};

use rumqttc::{
    NetworkOptions, Outgoing,
    v5::{
        AsyncClient, ConnectionError, Event, EventLoop, MqttOptions,
        mqttbytes::{
            QoS,
            v5::{ConnectReturnCode, Packet, PubAck, PubAckReason},
        },
    },
};
use tokio::{sync::mpsc::Receiver, time::Instant};
use tokio_util::sync::CancellationToken;
use zeugma_schemas::limits::PAYLOAD_BYTES_MAX;

use super::{
    Summary,
    window::{Message, WINDOW, Window},
};

/// Connections tried in a row without one acknowledgement, once there was a connection: the pauses between
/// them are 0.25 + 0.5 + 1 + 2 + 4 + 8 + 8 + 8 s, so a server may be away for half a minute.
const TRIES_MAX: u32 = 9;

/// The same before there ever was one: 0.25 + 0.5 + 1 s, for a server that starts at the same moment.
const FIRST_TRIES_MAX: u32 = 4;

const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// No acknowledgement for so long while readings wait for one: the connection is taken for dead.
const STALL: Duration = Duration::from_secs(30);

/// How long a stop usually waits for acknowledgements that are under way.
pub const DRAIN: Duration = Duration::from_secs(10);

/// How often progress is shown and the two limits above are looked at.
const TICK: Duration = Duration::from_millis(200);

const GOODBYE: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The server, and the name this client has there.
#[derive(Debug, Clone)]
pub struct Link {
    /// Host name or IP address (IPv6 in brackets).
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The same for all connections of a run, so that a new one replaces a half-dead one.
    pub client_id: String,
    /// How long a stop waits for acknowledgements that are under way.
    pub drain: Duration,
}

/// Why not everything could be sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There never was a connection.
    #[error("no MQTT server answers at {0}: start one (zeugma up) or name its address with --mqtt")]
    Unreachable(String, #[source] ConnectionError),
    /// There was a connection, and no new one for half a minute.
    #[error(
        "the connection to {0} broke and could not be made again: look at the server's log, then run the \
         same command again (readings that arrived twice are dropped there)"
    )]
    Lost(String, #[source] ConnectionError),
    /// The server answered and did not let us in.
    #[error("the MQTT server at {0} refused the connection")]
    Rejected(String, #[source] ConnectionError),
}

/// Sends what comes from `source` until it ends or `shutdown` is called; `summary` is true at every moment.
pub async fn publish(
    link: &Link,
    source: Receiver<Vec<Message>>,
    shutdown: &CancellationToken,
    summary: &mut Summary,
    progress: impl FnMut(&Summary),
) -> Result<(), Error> {
    let mut publisher = Publisher::new(source, summary, progress);
    let mut tries = 0;
    loop {
        let before = publisher.summary.answered();
        let Err(cause) = publisher.converse(link, shutdown).await else { return Ok(()) };
        if publisher.stopped.is_some() {
            return Ok(());
        }
        tries = if publisher.summary.answered() > before { 1 } else { tries + 1 };
        let at = format!("{}:{}", link.host, link.port);
        match cause {
            ConnectionError::ConnectionRefused(code) if !is_passing(code) => {
                return Err(Error::Rejected(at, cause));
            }
            _ if !publisher.connected && tries >= FIRST_TRIES_MAX => {
                return Err(Error::Unreachable(at, cause));
            }
            _ if tries >= TRIES_MAX => return Err(Error::Lost(at, cause)),
            _ => tracing::warn!(server = at, error = %cause, tries, "MQTT connection failed, trying again"),
        }
        publisher.window.rewind();
        tokio::select! {
            () = tokio::time::sleep(pause(tries)) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// Whether a server that refuses so may take us a little later.
fn is_passing(code: ConnectReturnCode) -> bool {
    use ConnectReturnCode::{ConnectionRateExceeded, QuotaExceeded, ServerBusy, ServerUnavailable};
    matches!(code, ServerUnavailable | ServerBusy | ConnectionRateExceeded | QuotaExceeded)
}

fn pause(tries: u32) -> Duration {
    PAUSE_MAX.min(PAUSE_FIRST * 2u32.saturating_pow(tries.saturating_sub(1)))
}

struct Publisher<'a, P> {
    source: Receiver<Vec<Message>>,
    /// Nothing more comes from the source.
    ended: bool,
    batch: VecDeque<Message>,
    window: Window,
    summary: &'a mut Summary,
    progress: P,
    /// When a stop was asked for.
    stopped: Option<Instant>,
    /// Whether there ever was a connection.
    connected: bool,
    /// Whether there is one now.
    online: bool,
}

impl<'a, P: FnMut(&Summary)> Publisher<'a, P> {
    fn new(source: Receiver<Vec<Message>>, summary: &'a mut Summary, progress: P) -> Publisher<'a, P> {
        Publisher {
            source,
            ended: false,
            batch: VecDeque::new(),
            window: Window::default(),
            summary,
            progress,
            stopped: None,
            connected: false,
            online: false,
        }
    }

    /// One connection from its beginning to its end; `Ok` where nothing is left to do.
    async fn converse(&mut self, link: &Link, shutdown: &CancellationToken) -> Result<(), ConnectionError> {
        // A fresh client each time: the library's own state keeps a blocked packet id across connections.
        let (client, eventloop) = AsyncClient::new(options(link), WINDOW.into());
        let mut poll = pin!(next(eventloop));
        let mut ticks = tokio::time::interval(TICK);
        let mut answered = (self.summary.answered(), Instant::now());
        self.online = false;
        loop {
            self.fill(&client);
            if self.is_done(link.drain) {
                if self.online && client.try_disconnect().is_ok() {
                    tokio::time::timeout(GOODBYE, leave(poll)).await.ok();
                }
                return Ok(());
            }
            let wants_batch = self.batch.is_empty() && !self.ended;
            tokio::select! {
                // The connection comes last: at full speed it is always ready and would starve the others.
                biased;
                () = shutdown.cancelled(), if self.stopped.is_none() => self.stop(),
                messages = self.source.recv(), if wants_batch => match messages {
                    Some(messages) => self.batch = messages.into(),
                    None => self.ended = true,
                },
                _ = ticks.tick() => {
                    (self.progress)(self.summary);
                    if answered.0 != self.summary.answered() || self.window.is_empty() {
                        answered = (self.summary.answered(), Instant::now());
                    } else if answered.1.elapsed() > STALL {
                        return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
                    }
                }
                (eventloop, event) = &mut poll => match event {
                    Ok(event) => {
                        self.take(event);
                        poll.set(next(eventloop));
                    }
                    Err(cause) => {
                        // Acknowledgements that were read together with the end are still in the client.
                        eventloop.state.events.into_iter().for_each(|event| self.take(event));
                        return Err(cause);
                    }
                },
            }
        }
    }

    fn stop(&mut self) {
        self.stopped = Some(Instant::now());
        self.ended = true;
        self.source.close();
        self.batch.clear();
        self.window.resend.clear();
    }

    fn is_done(&self, drain: Duration) -> bool {
        let nothing_left = self.ended && self.batch.is_empty() && self.window.is_empty();
        nothing_left || self.stopped.is_some_and(|since| since.elapsed() > drain)
    }

    /// Hands readings to the client while the window has room.
    fn fill(&mut self, client: &AsyncClient) {
        while self.online && self.window.has_room() {
            let again = self.window.resend.pop_front();
            self.summary.sent += u64::from(again.is_none() && !self.batch.is_empty());
            let Some(message) = again.or_else(|| self.batch.pop_front()) else { return };
            if message.payload.len() > PAYLOAD_BYTES_MAX {
                self.refuse(&message, "payload too large");
                continue;
            }
            client
                .try_publish(&*message.topic, QoS::AtLeastOnce, false, message.payload.clone())
                .expect("the client's queue is as long as the window, and ids make valid topics");
            self.window.handed.push_back(message);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => (self.connected, self.online) = (true, true),
            Event::Incoming(Packet::PubAck(ack)) => self.acknowledge(&ack),
            Event::Outgoing(Outgoing::Publish(packet_id)) => self.window.written(packet_id),
            _ => {}
        }
    }

    fn acknowledge(&mut self, ack: &PubAck) {
        let Some(message) = self.window.answered(ack.pkid) else { return };
        match ack.reason {
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => self.summary.acknowledged += 1,
            reason => self.refuse(&message, &format!("{reason:?}")),
        }
    }

    fn refuse(&mut self, message: &Message, reason: &str) {
        // One line is enough to find the cause; the rest is in the count.
        if self.summary.refused == 0 {
            tracing::warn!(topic = &*message.topic, reason, "reading refused; further ones are only counted");
        }
        self.summary.refused += 1;
    }
}

fn options(link: &Link) -> MqttOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let mut options = MqttOptions::new(&link.client_id, &link.host, link.port);
    options.set_keep_alive(KEEP_ALIVE).set_outgoing_inflight_upper_limit(WINDOW).set_network_options(network);
    options
}

/// Polling takes the event loop along, for a poll must not be cancelled half-way.
async fn next(mut eventloop: EventLoop) -> (EventLoop, Result<Event, ConnectionError>) {
    let event = eventloop.poll().await;
    (eventloop, event)
}

async fn leave(poll: impl Future<Output = (EventLoop, Result<Event, ConnectionError>)>) {
    let (mut eventloop, mut event) = poll.await;
    while !matches!(event, Err(_) | Ok(Event::Outgoing(Outgoing::Disconnect))) {
        event = eventloop.poll().await;
    }
}

#[cfg(test)]
mod tests;
