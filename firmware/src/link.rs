//! One connection to the broker, and the only place that knows the MQTT client.

use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use minimq::{
    Buffers, ConfigBuilder, Connection, Error, Io, Op, PeerError, PubError, Publication, QoS, ResourceError,
    Session,
};
use zeugma_schemas::{domains::Measurement, limits::TOPIC_LEN_MAX};

use crate::{
    batch::{Batch, Format, PAYLOAD_BYTES_MAX},
    board::{Dial, Lost},
    name::{CLIENT_ID_LEN_MAX, TopicText, topic},
    outbox::Outbox,
    ring::Ticket,
    schedule::Channel,
    settings::SECRET_LEN_MAX,
};

/// A silent broker is noticed after this long and 5 s more.
const KEEPALIVE_S: u16 = 30;

/// Publishes that may wait for their acknowledgement; minimq could keep 8.
pub(crate) const WINDOW: usize = 4;

/// Largest inbound packet, a CONNACK or PUBACK with its properties; announced to the broker.
pub(crate) const RX_BYTES: usize = 256;

/// Fixed header 5, length of topic 2, packet id 2, no properties 1.
const PUBLISH_BYTES_MAX: usize = 5 + 2 + TOPIC_LEN_MAX + 2 + 1 + PAYLOAD_BYTES_MAX;

/// Fixed header 5, variable header 10, three properties 14, client id, user name and password, each with its length;
/// the rest is spare.
const CONNECT_BYTES_MAX: usize = 5 + 10 + 14 + 2 + CLIENT_ID_LEN_MAX + 2 * (2 + SECRET_LEN_MAX) + 33;

/// minimq keeps what is not acknowledged, and room for the next CONNECT.
pub(crate) const TX_BYTES: usize = WINDOW * PUBLISH_BYTES_MAX + CONNECT_BYTES_MAX;

/// Where the readings of one channel go, and by which schema they are read.
#[derive(Clone)]
pub(crate) struct Series {
    topic: TopicText,
    fingerprint: u64,
}

impl Series {
    /// Of the readings `M` of a device; names are valid ids.
    pub(crate) fn new<M: Measurement>(tenant: &str, device: &str) -> Series {
        Series { topic: topic(tenant, M::DOMAIN, device), fingerprint: M::FINGERPRINT }
    }
}

/// The MQTT session over the caller's buffers; the broker is to forget it when the connection ends.
pub(crate) fn session<'b>(
    rx: &'b mut [u8],
    tx: &'b mut [u8],
    client_id: &str,
    login: Option<(&'b str, &'b [u8])>,
) -> Session<'b> {
    let mut config = ConfigBuilder::new(Buffers::new(rx, tx)).keepalive_interval(KEEPALIVE_S);
    if let Some((user, password)) = login {
        config = config.auth(user, password).expect("it is set once");
    }
    Session::new(config.client_id(client_id).expect("the device's client id was made to fit"))
}

/// One live connection.
pub(crate) struct Link<'s, 'b, I> {
    connection: Connection<'s, 'b, I>,
    series: &'s [Series; 2],
    payload: &'s mut Payload,
}

/// Room for one payload.
pub(crate) type Payload = [u8; PAYLOAD_BYTES_MAX];

/// A batch on its way.
pub(crate) struct Parcel {
    pub(crate) channel: Channel,
    pub(crate) ticket: Ticket,
    pub(crate) count: usize,
    place: core::ops::Range<usize>,
}

/// What became of a publish that was handed over.
pub(crate) enum Fate {
    UnderWay,
    /// The broker answered; whether with yes or no is not kept.
    Answered,
    /// Its session is lost.
    Forgotten,
}

/// What came of trying to publish.
pub(crate) enum Sent {
    Accepted(Op),
    /// The client has no room for one more now.
    NotNow,
    /// The broker takes no packets of this size.
    TooLarge,
}

/// Dials the broker and opens the session.
pub(crate) async fn open<'s, 'b, 'd, D: Dial>(
    dial: &'d mut D,
    session: &'s mut Session<'b>,
    payload: &'s mut Payload,
    series: &'s [Series; 2],
) -> Result<Link<'s, 'b, D::Io<'d>>, Lost> {
    let io = dial.dial().await?;
    let connection = session.connect(io).await.map_err(lost)?;
    Ok(Link { connection, series, payload })
}

impl<I> Link<'_, '_, I> {
    /// Makes the next batch of `channel` ready, of up to `count_max` readings; `None` if none waits.
    pub(crate) fn pack<F: MultiwriteNorFlash, const R: usize, const B: usize>(
        &mut self,
        outbox: &mut Outbox<'_, F, R, B>,
        format: Format,
        (channel, ticket, count_max): (Channel, Ticket, usize),
    ) -> Option<Parcel> {
        let fingerprint = self.series[channel as usize].fingerprint;
        let mut batch = Batch::new(format, fingerprint, count_max, self.payload);
        let count = outbox.gather(channel, ticket, &mut batch);
        (count > 0).then(|| Parcel { channel, ticket, count, place: batch.finish() })
    }
}

impl<I: Io> Link<'_, '_, I> {
    /// What became of a publish.
    pub(crate) fn fate(&self, op: &Op) -> Fate {
        match () {
            () if self.connection.is_pending(op) => Fate::UnderWay,
            () if self.connection.is_invalidated(op) => Fate::Forgotten,
            () => Fate::Answered,
        }
    }

    /// Hands one batch to the broker.
    pub(crate) async fn publish(&mut self, parcel: &Parcel) -> Result<Sent, Lost> {
        let topic = &self.series[parcel.channel as usize].topic;
        let payload = &self.payload[parcel.place.clone()];
        match self.connection.publish(Publication::bytes(topic, payload).qos(QoS::AtLeastOnce)).await {
            Ok(Some(op)) => Ok(Sent::Accepted(op)),
            Err(PubError::Session(Error::Resource(ResourceError::PacketTooLarge))) => Ok(Sent::TooLarge),
            Err(PubError::Session(Error::NotReady | Error::Resource(_))) => Ok(Sent::NotNow),
            Err(PubError::Session(err)) => Err(lost(err)),
            // A slice is copied without fail, and QoS 1 always gives a handle.
            Ok(None) | Err(PubError::Payload(())) => Err(Lost::Protocol),
        }
    }

    /// Waits for anything to happen; answers whether a publish was refused.
    pub(crate) async fn poll(&mut self) -> Result<bool, Lost> {
        match self.connection.poll().await {
            Ok(_) => Ok(false),
            Err(Error::Peer(PeerError::Rejected(_))) => Ok(true),
            Err(err) => Err(lost(err)),
        }
    }

    /// Says goodbye, so that the broker need not wait for the keepalive.
    pub(crate) async fn close(&mut self) {
        // The device is done with the connection either way.
        let _ = self.connection.disconnect().await;
    }
}

fn lost<E>(err: Error<E>) -> Lost {
    match err {
        Error::Peer(PeerError::Rejected(code)) => Lost::Refused(code.into()),
        Error::Disconnected | Error::Transport(_) | Error::WriteZero => Lost::Closed,
        _ => Lost::Protocol,
    }
}
