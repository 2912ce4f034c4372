//! The one task of a subscriber: it turns the client library's wheel and hears the journal's answers.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use rumqttc::{
    Outgoing,
    v5::{
        AsyncClient, Event, EventLoop,
        mqttbytes::{
            QoS,
            v5::{Packet, Publish, SubAck, SubscribeReasonCode},
        },
    },
};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    backoff::{PAUSE_MAX, pause},
    gather::{Ack, Gather},
    options::{ACKS_AHEAD_MAX, UNACKNOWLEDGED_MAX, filter, restore},
};
use crate::Metrics;

/// How long a farewell may take; the program gives all of its parts ten seconds.
pub(super) const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// How often a full journal is asked again.
const ROOM_RETRY: Duration = Duration::from_millis(5);

/// All that the task knows beside the library's own state.
pub(super) struct Reception {
    pub(super) client: AsyncClient,
    pub(super) gather: Gather,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: CancellationToken,
    /// Seen by the handle: the broker is there and sends us what is published.
    pub(super) connected: Arc<AtomicBool>,
    /// Where the broker is, for people.
    pub(super) address: String,
    /// Seed of the pauses between attempts.
    pub(super) source: String,
    pub(super) state: State,
}

/// Where the task stands.
#[derive(Default)]
pub(super) struct State {
    /// The broker has taken our connection.
    linked: bool,
    /// The broker has confirmed the subscription, in its present session.
    subscribed: bool,
    /// Publishes of this connection that are not acknowledged.
    unacknowledged: usize,
    /// Acknowledgements of this connection that the library has not got yet.
    acks: VecDeque<Ack>,
    /// How many it has got and not written.
    ahead: usize,
    /// Since when all is well.
    ready_since: Option<Instant>,
    /// An outage has been logged, its end not yet.
    outage: bool,
    /// Attempts and short-lived connections in a row.
    failed: u32,
    /// Until when a farewell may take, once it has begun.
    farewell: Option<Instant>,
    /// The broker has been told.
    farewell_said: bool,
}

/// Runs until the journal fails or, after a shutdown, all is said.
pub(super) async fn run(mut eventloop: EventLoop, mut reception: Reception) -> Result<(), Error> {
    loop {
        let Some(polled) = reception.attend(eventloop.poll()).await? else { return Ok(()) };
        let problem = match polled {
            Ok(event) => match reception.take(&mut eventloop, event) {
                Ok(()) => continue,
                Err(problem) => problem,
            },
            Err(error) => error.to_string(),
        };
        reception.disconnected(&mut eventloop, &problem);
        let pause = pause(reception.state.failed, &reception.source);
        reception.state.failed = reception.state.failed.saturating_add(1);
        if reception.attend(sleep(pause)).await?.is_none() {
            return Ok(());
        }
    }
}

impl Reception {
    /// Waits for `work` and hears the journal and the shutdown meanwhile. `None`: nothing is left to do.
    ///
    /// The library's poll is never dropped half-way, as an acknowledgement that it has taken from its channel
    /// and not yet written would be lost with it; hence one future here, however often something else happens.
    async fn attend<F: Future>(&mut self, work: F) -> Result<Option<F::Output>, Error> {
        let mut work = pin!(work);
        loop {
            while let Poll::Ready(acks) = futures::poll!(poll_fn(|cx| self.gather.poll_synced(cx))) {
                self.acknowledge(&acks?);
            }
            if self.gather.is_full() {
                self.gather.submit();
            }
            // Without room nothing is read: that is how a slow journal holds back the broker.
            let going_on = self.state.farewell.is_some() || self.gather.has_room();
            // As long as packets lie ready they gather; only then do they share one sync.
            if going_on && let Poll::Ready(done) = futures::poll!(work.as_mut()) {
                return Ok(Some(done));
            }
            self.gather.submit();
            if self.has_ended() {
                return Ok(None);
            }
            let farewell = self.state.farewell;
            tokio::select! {
                biased;
                acks = poll_fn(|cx| self.gather.poll_synced(cx)) => self.acknowledge(&acks?),
                () = self.shutdown.cancelled(), if farewell.is_none() => {
                    self.state.farewell = Some(Instant::now() + FAREWELL_MAX);
                }
                () = sleep_until(farewell.unwrap_or_else(Instant::now)), if farewell.is_some() => return Ok(None),
                done = work.as_mut(), if going_on => return Ok(Some(done)),
                () = sleep(ROOM_RETRY), if !going_on => {}
            }
        }
    }

    /// Takes what the library tells.
    fn take(&mut self, eventloop: &mut EventLoop, event: Event) -> Result<(), String> {
        if matches!(event, Event::Incoming(_)) {
            // Whatever comes shows that the broker lives: its answer to a ping may stand behind very much else.
            eventloop.state.await_pingresp = false;
        }
        match event {
            Event::Incoming(Packet::Publish(publish)) => return self.publish(&publish),
            Event::Outgoing(Outgoing::PubAck(_) | Outgoing::PubRec(_)) => {
                self.state.unacknowledged = self.state.unacknowledged.saturating_sub(1);
                self.state.ahead = self.state.ahead.saturating_sub(1);
                self.metrics.acknowledged.inc();
                self.hand_over();
            }
            Event::Incoming(Packet::ConnAck(connack)) => {
                if eventloop.options.keep_alive().is_zero() {
                    restore(&mut eventloop.options);
                }
                self.linked(connack.session_present);
            }
            Event::Incoming(Packet::SubAck(answer)) => return self.subscribed(&answer),
            _ => {}
        }
        Ok(())
    }

    fn publish(&mut self, publish: &Publish) -> Result<(), String> {
        // What comes during the farewell comes again next time.
        if self.state.farewell.is_some() {
            return Ok(());
        }
        if publish.qos != QoS::AtMostOnce {
            self.state.unacknowledged += 1;
            if self.state.unacknowledged > UNACKNOWLEDGED_MAX {
                return Err("it sends more than may be unacknowledged".into());
            }
        }
        self.gather.take(publish);
        Ok(())
    }

    /// Acknowledges what is on disk, in order of receipt.
    pub(super) fn acknowledge(&mut self, acks: &[Ack]) {
        self.state.acks.extend(acks);
        self.hand_over();
    }

    /// Hands acknowledgements to the library, a few ahead of what it has written.
    fn hand_over(&mut self) {
        while self.state.ahead < ACKS_AHEAD_MAX
            && let Some(Ack { pkid, qos }) = self.state.acks.pop_front()
        {
            let publish = Publish { pkid, qos, ..Publish::default() };
            self.client.try_ack(&publish).expect("the channel holds this many");
            self.state.ahead += 1;
        }
    }

    /// The broker has taken the connection.
    fn linked(&mut self, session_present: bool) {
        self.state.linked = true;
        self.state.subscribed &= session_present;
        if self.state.subscribed {
            return self.ready();
        }
        self.client.try_subscribe_many([filter()]).expect("the channel of a new connection is empty");
    }

    /// The broker has answered the subscription.
    fn subscribed(&mut self, answer: &SubAck) -> Result<(), String> {
        match answer.return_codes.as_slice() {
            [SubscribeReasonCode::Success(QoS::AtLeastOnce)] => {
                self.state.subscribed = true;
                self.ready();
                Ok(())
            }
            [SubscribeReasonCode::Success(_)] => Err("it does not offer QoS 1 for our subscription".into()),
            other => Err(format!("it refuses our subscription: {other:?}")),
        }
    }

    fn ready(&mut self) {
        self.state.ready_since = Some(Instant::now());
        self.state.outage = false;
        self.connected.store(true, Ordering::Relaxed);
        self.metrics.broker_away.set(0);
        tracing::info!(broker = self.address, "the broker is there");
    }

    /// The connection has ended, or none came about. From here on the library holds nothing of it any more:
    /// neither acknowledgements that would be sent on the next one, nor publishes that would surface there.
    pub(super) fn disconnected(&mut self, eventloop: &mut EventLoop, problem: &str) {
        eventloop.clean();
        eventloop.pending.clear();
        restore(&mut eventloop.options);
        self.gather.disconnected();
        for event in std::mem::take(&mut eventloop.state.events) {
            if let Event::Incoming(Packet::Publish(publish)) = event {
                self.gather.keep(&publish);
            }
        }
        self.connected.store(false, Ordering::Relaxed);
        self.metrics.broker_away.set(1);
        self.state.linked = false;
        self.state.unacknowledged = 0;
        self.state.acks = VecDeque::new();
        self.state.ahead = 0;
        if self.state.ready_since.take().is_some_and(|since| since.elapsed() >= PAUSE_MAX) {
            self.state.failed = 0;
        }
        if !self.state.outage && self.state.farewell.is_none() {
            self.state.outage = true;
            tracing::warn!(broker = self.address, problem, "the broker is away; trying until it is back");
        }
    }

    /// Whether the farewell is over. Once all is acknowledged the broker is told; it then closes the connection
    /// and keeps the session.
    fn has_ended(&mut self) -> bool {
        if self.state.farewell.is_none() || !self.gather.is_empty() || !self.state.acks.is_empty() {
            return false;
        }
        if self.state.linked && !self.state.farewell_said {
            self.state.farewell_said = true;
            // Behind the acknowledgements, in the same channel. Without it the broker notices all the same.
            drop(self.client.try_disconnect());
        }
        !self.state.linked
    }
}
