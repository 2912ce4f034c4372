//! Publishes gathered into batches for the journal, and the acknowledgements that wait for their sync.
//!
//! In: publishes in order of receipt. Out: the same order of acknowledgements, each after the sync of its
//! payload. Promise: what came by one connection is never acknowledged on another.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::FutureExt;
use rumqttc::v5::mqttbytes::{QoS, v5::Publish};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use zeugma_journal::{Batch, Error, Group, Payload, Position, Record};
use zeugma_schemas::limits::{KEPT_OF_TOO_LARGE_BYTES, PAYLOAD_BYTES_MAX};

use super::Config;
use crate::{Clock, Metrics, blocked::Blocked};

/// Publishes that share a submission at most.
const BATCH_LEN_MAX: usize = 4096;

/// Bytes of records after which a batch is full; the payload that fills it may add 256 KiB, and ten that the
/// library had read before an outage 2.5 MiB, so it stays below 7 MiB.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Submissions that may wait for a sync: one being written, one to follow it. What comes meanwhile gathers
/// into a third, so a subscriber holds at most three batches, 21 MiB.
const IN_FLIGHT_MAX: usize = 2;

/// What names a publish in its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) pkid: u16,
    pub(super) qos: QoS,
}

/// The publishes on their way to the disk.
pub(super) struct Gather {
    config: Config,
    group: Group,
    metrics: Arc<Metrics>,
    clock: Clock,
    blocked: Blocked,
    batch: Batch,
    acks: Vec<Ack>,
    in_flight: VecDeque<InFlight>,
    /// Counts connections; acknowledgements of an earlier one are void.
    connection: u64,
}

/// One submission that waits for its sync.
struct InFlight {
    connection: u64,
    records: usize,
    acks: Vec<Ack>,
    told: oneshot::Receiver<Result<Position, Error>>,
}

impl Gather {
    pub(super) fn new(
        config: Config,
        group: Group,
        metrics: Arc<Metrics>,
        clock: Clock,
        blocked: Blocked,
    ) -> Gather {
        let (batch, acks, in_flight) = Default::default();
        Gather { config, group, metrics, clock, blocked, batch, acks, in_flight, connection: 0 }
    }

    /// Takes a publish.
    pub(super) fn take(&mut self, publish: &Publish) {
        self.metrics.received.inc();
        self.metrics.received_bytes.inc_by(publish.payload.len() as u64);
        let topic = String::from_utf8_lossy(&publish.topic);
        if self.config.trusts(&topic) && !self.blocked.has(&topic) {
            let received_at_us = (self.clock)();
            let payload = payload(&publish.payload);
            self.batch.push(&Record { tenant: None, topic: &topic, received_at_us, payload });
        } else {
            self.metrics.refused.inc();
        }
        if publish.qos != QoS::AtMostOnce {
            self.acks.push(Ack { pkid: publish.pkid, qos: publish.qos });
        }
    }

    /// Whether what has gathered should wait for no more.
    pub(super) fn is_full(&self) -> bool {
        self.acks.len().max(self.batch.len()) >= BATCH_LEN_MAX || self.batch.bytes() >= BATCH_BYTES_MAX
    }

    /// Whether another publish may be taken now.
    pub(super) fn has_room(&self) -> bool {
        !self.is_full() && self.group.has_room()
    }

    /// Whether everything taken is on disk.
    pub(super) fn is_empty(&self) -> bool {
        self.in_flight.is_empty() && self.batch.is_empty() && self.acks.is_empty()
    }

    /// Hands what has gathered to the journal, unless enough is on its way there.
    pub(super) fn submit(&mut self) {
        if self.in_flight.len() >= IN_FLIGHT_MAX || (self.batch.is_empty() && self.acks.is_empty()) {
            return;
        }
        let (tell, told) = oneshot::channel();
        let batch = std::mem::take(&mut self.batch);
        let (records, acks, connection) = (batch.len(), std::mem::take(&mut self.acks), self.connection);
        self.in_flight.push_back(InFlight { connection, records, acks, told });
        if records == 0 {
            // Nothing to sync, but what was refused is still acknowledged in its turn.
            drop(tell.send(Ok(0)));
        } else {
            self.group.submit(batch, Box::new(move |result| drop(tell.send(result))));
        }
    }

    /// The acknowledgements of the oldest submission, once it is on disk; pending where there is none.
    pub(super) fn poll_synced(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Ack>, Error>> {
        let Some(oldest) = self.in_flight.front_mut() else { return Poll::Pending };
        let told = ready!(oldest.told.poll_unpin(cx));
        let InFlight { connection, records, acks, .. } =
            self.in_flight.pop_front().expect("the oldest submission was just looked at");
        told.unwrap_or(Err(Error::Closed))?;
        self.metrics.synced.inc_by(records as u64);
        Poll::Ready(Ok(if connection == self.connection { acks } else { Vec::new() }))
    }

    /// Forgets the acknowledgements of the connection that has ended; its payloads are kept.
    pub(super) fn disconnected(&mut self) {
        self.connection += 1;
        self.acks.clear();
    }

    /// Keeps what the ended connection had still delivered: the broker sends it again if it still has the
    /// session, and where it has lost the session this is the only copy.
    pub(super) fn keep(&mut self, publish: &Publish) {
        self.take(publish);
        self.acks.clear();
    }
}

/// The payload as the journal has it: one over the limit is cut.
fn payload(bytes: &[u8]) -> Payload<'_> {
    if bytes.len() <= PAYLOAD_BYTES_MAX {
        return Payload::Whole(bytes);
    }
    let sha256 = Sha256::digest(bytes).into();
    Payload::Cut { kept: &bytes[..KEPT_OF_TOO_LARGE_BYTES], bytes: bytes.len() as u64, sha256 }
}
