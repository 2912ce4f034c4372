//! What becomes of one publish: it is read to its end, then journaled, or refused where the protocol can
//! say so.

use std::{rc::Rc, sync::Arc, time::Duration};

use futures::FutureExt;
use ntex::{
    time::{Seconds, sleep, timeout},
    util::Bytes,
};
use ntex_mqtt::{Payload, QoS, error::PayloadError};
use sha2::{Digest, Sha256};
use zeugma_journal::{Payload as Kept, Record};
use zeugma_schemas::{
    limits::{KEPT_OF_TOO_LARGE_BYTES, PAYLOAD_BYTES_MAX},
    topic::Topic,
};

use super::{
    account::{Account, Reserved},
    session::{Held, Session},
    turn::Outcome,
};

/// The largest packet that MQTT has; a payload said to be larger is a malformed packet.
pub(super) const PACKET_BYTES_MAX: u32 = 268_435_455;

/// How often a payload that comes in pieces looks for room again.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(50);

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
    /// It came too slowly.
    #[error("the payload took too long to come")]
    Slow,
    /// Its tenant has as many connections as it may have.
    #[error("the tenant has too many connections")]
    TooMany,
    /// QoS 2 publishes that are never released.
    #[error("too many QoS 2 publishes wait for their release")]
    Unreleased,
}

/// Why a publish is refused, the connection staying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The topic has another shape.
    Topic,
    /// The payload is over the limit; how long it is.
    TooLarge(usize),
    /// The device or its tenant is blocked.
    Blocked,
}

/// One publish, of either protocol.
pub(super) struct Publish<'a> {
    pub topic: &'a str,
    pub qos: QoS,
    pub packet_bytes: usize,
    pub payload: &'a Payload,
    pub payload_bytes: usize,
}

/// A publish that is on its way to disk. It borrows nothing of the packet, so that what was read can be
/// given back.
pub(super) struct Submitted {
    outcome: Rc<Outcome>,
    held: Held,
    is_acknowledged: bool,
}

impl Submitted {
    /// Waits until it is on disk.
    pub async fn synced(self, session: &Session) -> Result<(), Error> {
        let synced = self.outcome.known().await;
        drop(self.held);
        if !synced {
            return Err(Error::Unsynced);
        }
        if self.is_acknowledged {
            session.worker.metrics.acknowledged.inc();
        }
        Ok(())
    }
}

impl Publish<'_> {
    /// What MQTT 5 refuses, and MQTT 3.1.1 cannot.
    pub fn refusal(&self, session: &Session) -> Option<Refusal> {
        if Topic::parse(self.topic).is_none() {
            return Some(Refusal::Topic);
        }
        if self.is_blocked(session) {
            return Some(Refusal::Blocked);
        }
        self.is_too_large().then_some(Refusal::TooLarge(self.payload_bytes))
    }

    fn is_blocked(&self, session: &Session) -> bool {
        session.worker.blocked.has(self.topic)
    }

    fn is_too_large(&self) -> bool {
        self.payload_bytes > PAYLOAD_BYTES_MAX
    }

    /// Keeps a publish that is here as a whole, with nothing before it that is not: nearly every one. None
    /// has to be waited for, so that what is kept of each until its sync stays small.
    pub fn keep_now(&self, session: &Rc<Session>) -> Option<Result<Submitted, Error>> {
        let is_plain = self.payload.is_fixed() && !self.is_too_large() && !self.is_blocked(session);
        if !is_plain || !session.order.is_free() {
            return None;
        }
        let kept = async {
            let account = self.count(session)?;
            let bytes = self.read_fixed(session, &account).await?;
            Ok(self.submit(session, account, Kept::Whole(&bytes)))
        };
        kept.now_or_never()
    }

    /// For MQTT 3.1.1, which cannot refuse: everything is kept, and acceptance judges it. Only what is blocked is
    /// read to its end and let fall, acknowledged all the same.
    pub async fn keep_or_let_fall(self, session: &Rc<Session>) -> Result<Submitted, Error> {
        let (is_acknowledged, topic) = (self.qos != QoS::AtMostOnce, self.topic);
        let kept = match self.is_blocked(session) {
            true => Err(self.let_fall(session).await?),
            false => self.keep(session).await?,
        };
        Ok(kept.unwrap_or_else(|account| {
            tracing::debug!(topic, "let fall, as it is blocked");
            let outcome = Rc::<Outcome>::default();
            outcome.set(true);
            Submitted { outcome, held: session.hold(account, 0), is_acknowledged }
        }))
    }

    /// For MQTT 5: what is malformed, too large or blocked is read to its end and refused with a reason.
    pub async fn keep_or_refuse(self, session: &Rc<Session>) -> Result<Result<Submitted, Refusal>, Error> {
        if let Some(refusal) = self.refusal(session) {
            self.let_fall(session).await?;
            return Ok(Err(refusal));
        }
        Ok(self.keep(session).await?.map_err(|_| Refusal::Blocked))
    }

    /// Keeps any publish, unless it has been blocked while it was read.
    async fn keep(self, session: &Rc<Session>) -> Result<Result<Submitted, Arc<Account>>, Error> {
        let place = session.order.place();
        let account = self.count(session)?;
        if !self.is_too_large() {
            let bytes = self.read_whole(session, &account).await?;
            place.reached().await;
            return Ok(self.submit_unblocked(session, account, Kept::Whole(&bytes)));
        }
        let (kept, sha256) = self.read_cut(session, &account).await?;
        place.reached().await;
        let payload = Kept::Cut { kept: &kept, bytes: self.payload_bytes as u64, sha256 };
        Ok(self.submit_unblocked(session, account, payload))
    }

    fn submit_unblocked(
        &self,
        session: &Rc<Session>,
        account: Arc<Account>,
        payload: Kept<'_>,
    ) -> Result<Submitted, Arc<Account>> {
        if self.is_blocked(session) {
            session.worker.metrics.refused.inc();
            return Err(account);
        }
        Ok(self.submit(session, account, payload))
    }

    /// Reads it to its end, in its turn, and keeps nothing of it.
    async fn let_fall(self, session: &Rc<Session>) -> Result<Arc<Account>, Error> {
        let place = session.order.place();
        let account = self.count(session)?;
        self.read(session, &account, |_| ()).await?;
        place.reached().await;
        session.worker.metrics.refused.inc();
        Ok(account)
    }

    /// Adds it to the turn.
    fn submit(&self, session: &Rc<Session>, account: Arc<Account>, payload: Kept<'_>) -> Submitted {
        let (Kept::Whole(bytes) | Kept::Cut { kept: bytes, .. } | Kept::Again { bytes, .. }) = payload;
        let held = session.hold(account, bytes.len() + self.head_bytes());
        let record =
            Record { tenant: session.tenant.as_deref(), topic: self.topic, received_at_us: 0, payload };
        let outcome = session.worker.push(record);
        Submitted { outcome, held, is_acknowledged: self.qos != QoS::AtMostOnce }
    }

    /// All of the packet but its payload.
    fn head_bytes(&self) -> usize {
        self.packet_bytes.saturating_sub(self.payload_bytes)
    }

    /// Counts the packet for its tenant.
    fn count(&self, session: &Session) -> Result<Arc<Account>, Error> {
        if self.qos == QoS::ExactlyOnce {
            session.begin_release()?;
        }
        let account = session.account(self.topic).inspect_err(|_| session.turn_away())?;
        session.charge(&account, self.head_bytes());
        Ok(account)
    }

    /// A payload that came in one piece is not copied, and not waited for.
    async fn read_fixed(&self, session: &Session, account: &Account) -> Result<Bytes, Error> {
        let mut only = Bytes::new();
        self.read(session, account, |piece| only = piece).await.map(|()| only)
    }

    /// One that comes in pieces is waited for so long only,
    /// and once there is room for it; its buffer grows with what has come, not with what was announced.
    async fn read_whole(&self, session: &Rc<Session>, account: &Arc<Account>) -> Result<Bytes, Error> {
        if self.payload.is_fixed() {
            return self.read_fixed(session, account).await;
        }
        let _pieces = session.begin_pieces();
        let _reserved = self.reserve(session, account).await;
        let mut all = Vec::new();
        let reading = self.read(session, account, |piece| all.extend_from_slice(&piece));
        timeout(Seconds(session.worker.payload_seconds), reading).await.map_err(|()| Error::Slow)??;
        Ok(Bytes::from(all))
    }

    /// Waits until there is room for a payload that comes in pieces.
    async fn reserve(&self, session: &Session, account: &Arc<Account>) -> Reserved {
        let accounts = &session.worker.accounts;
        if let Some(reserved) = accounts.reserve(account, self.payload_bytes) {
            return reserved;
        }
        session.worker.metrics.slowed.inc();
        session.set_reserving(true);
        loop {
            sleep(LOOK_FOR_ROOM).await;
            if let Some(reserved) = accounts.reserve(account, self.payload_bytes) {
                session.set_reserving(false);
                return reserved;
            }
        }
    }

    /// The beginning of a payload that is too large, and the hash of all of it.
    async fn read_cut(&self, session: &Rc<Session>, account: &Account) -> Result<(Bytes, [u8; 32]), Error> {
        let _pieces = session.begin_pieces();
        let (mut kept, mut hash) = (Vec::new(), Sha256::new());
        self.read(session, account, |piece| {
            let room = KEPT_OF_TOO_LARGE_BYTES - kept.len();
            kept.extend_from_slice(&piece[..piece.len().min(room)]);
            hash.update(&piece);
        })
        .await?;
        Ok((Bytes::from(kept), hash.finalize().into()))
    }

    /// Reads the payload to its end, piece by piece, and counts it for its tenant.
    async fn read(
        &self,
        session: &Session,
        account: &Account,
        mut each: impl FnMut(Bytes),
    ) -> Result<(), Error> {
        if self.payload_bytes > PACKET_BYTES_MAX as usize {
            return Err(Error::Malformed);
        }
        let mut read_bytes = 0;
        while let Some(piece) = self.payload.read().await? {
            read_bytes += piece.len();
            session.charge(account, piece.len());
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
