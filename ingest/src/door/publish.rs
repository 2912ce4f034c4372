//! What becomes of one publish: it is read to its end, then journaled, or refused where the protocol can
//! say so.

use std::rc::Rc;

use ntex::util::Bytes;
use ntex_mqtt::{Payload, QoS, error::PayloadError};
use sha2::{Digest, Sha256};
use zeugma_journal::{Payload as Kept, Record};
use zeugma_schemas::{
    limits::{KEPT_OF_TOO_LARGE_BYTES, PAYLOAD_BYTES_MAX},
    topic::Topic,
};

use super::session::Session;

/// The largest packet that MQTT has; a payload said to be larger is a malformed packet.
pub(super) const PACKET_BYTES_MAX: u32 = 268_435_455;

/// Why a publish ends its connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The journal did not take it, so it must not be acknowledged.
    #[error("the payload could not be written to disk")]
    Unsynced,
    /// The payload did not come to its end.
    #[error("the payload did not come to its end")]
    Payload(#[from] PayloadError),
    /// The packet contradicts itself.
    #[error("the packet is malformed")]
    Malformed,
}

/// Why a publish is refused, the connection staying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The topic has another shape.
    Topic,
    /// The payload is over the limit; how long it is.
    TooLarge(usize),
}

/// One publish, of either protocol.
pub(super) struct Publish<'a> {
    pub topic: &'a str,
    pub qos: QoS,
    pub payload: Payload,
    pub payload_bytes: usize,
}

impl Publish<'_> {
    fn refusal(&self) -> Option<Refusal> {
        if Topic::parse(self.topic).is_none() {
            return Some(Refusal::Topic);
        }
        (self.payload_bytes > PAYLOAD_BYTES_MAX).then_some(Refusal::TooLarge(self.payload_bytes))
    }

    /// For MQTT 3.1.1, which cannot refuse: everything is kept, and acceptance judges it.
    pub async fn keep(self, session: &Rc<Session>) -> Result<(), Error> {
        let place = session.place();
        let (bytes, sha256) = match self.payload_bytes > PAYLOAD_BYTES_MAX {
            false => (self.read_whole(session).await?, None),
            true => self.read_cut(session).await.map(|(bytes, sha256)| (bytes, Some(sha256)))?,
        };
        place.reached().await;
        let held = session.hold(bytes.len());
        let payload = match sha256 {
            Some(sha256) => Kept::Cut { kept: &bytes, bytes: self.payload_bytes as u64, sha256 },
            None => Kept::Whole(&bytes),
        };
        let record =
            Record { tenant: session.tenant.as_deref(), topic: self.topic, received_at_us: 0, payload };
        let outcome = session.worker.push(record);
        // Whoever is behind may be submitted now, in the same turn.
        drop((place, bytes));
        let synced = outcome.known().await;
        drop(held);
        if !synced {
            return Err(Error::Unsynced);
        }
        if self.qos != QoS::AtMostOnce {
            session.worker.metrics.acknowledged.inc();
        }
        Ok(())
    }

    /// For MQTT 5: what is malformed or too large is read to its end and refused with a reason.
    pub async fn keep_or_refuse(self, session: &Rc<Session>) -> Result<Option<Refusal>, Error> {
        let Some(refusal) = self.refusal() else { return self.keep(session).await.map(|()| None) };
        let place = session.place();
        self.read(session, |_| ()).await?;
        place.reached().await;
        session.worker.metrics.refused.inc();
        Ok(Some(refusal))
    }

    /// A payload that came in one piece is not copied; a buffer grows with what has come, not with what
    /// was announced.
    async fn read_whole(&self, session: &Session) -> Result<Bytes, Error> {
        let (mut only, mut all) = (Bytes::new(), Vec::new());
        self.read(session, |piece| match piece.len() == self.payload_bytes {
            true => only = piece,
            false => all.extend_from_slice(&piece),
        })
        .await?;
        Ok(if all.is_empty() { only } else { Bytes::from(all) })
    }

    /// The beginning of a payload that is too large, and the hash of all of it.
    async fn read_cut(&self, session: &Session) -> Result<(Bytes, [u8; 32]), Error> {
        let (mut kept, mut hash) = (Vec::new(), Sha256::new());
        self.read(session, |piece| {
            let room = KEPT_OF_TOO_LARGE_BYTES - kept.len();
            kept.extend_from_slice(&piece[..piece.len().min(room)]);
            hash.update(&piece);
        })
        .await?;
        Ok((Bytes::from(kept), hash.finalize().into()))
    }

    /// Reads the payload to its end, piece by piece.
    async fn read(&self, session: &Session, mut each: impl FnMut(Bytes)) -> Result<(), Error> {
        if self.payload_bytes > PACKET_BYTES_MAX as usize {
            return Err(Error::Malformed);
        }
        let mut read_bytes = 0;
        while let Some(piece) = self.payload.read().await? {
            read_bytes += piece.len();
            each(piece);
        }
        if read_bytes != self.payload_bytes {
            return Err(Error::Malformed);
        }
        session.worker.metrics.received.inc();
        session.worker.metrics.received_bytes.inc_by(read_bytes as u64);
        Ok(())
    }
}
