//! The protocols' rules: what each version is told at its handshake, and what is answered to everything a
//! client can send.

use std::{num::NonZeroU32, rc::Rc};

use futures::{
    FutureExt,
    future::{Either, ready},
};
use ntex::{io::IoBoxed, time::Seconds, util::ByteString};
use ntex_mqtt::{Payload, QoS, v3, v5};
use v5::codec::{ConnectAckReason, PublishAckReason, SubscribeAckReason};
use zeugma_schemas::limits::PAYLOAD_BYTES_MAX;

use super::{
    frames::Number,
    limits::CLIENT_ID_BYTES_MAX,
    publish::{Error, PACKET_BYTES_MAX, Publish, Refusal},
    session::Session,
    sink::Sink,
    worker::Worker,
};

/// Announced to MQTT 5 clients as Maximum Packet Size: the largest payload, 1 KiB for the header and the
/// topic (187 bytes at most), 64 KiB for properties. Larger ones end the connection with reason 0x95.
pub(super) const PACKET_BYTES_ANNOUNCED: u32 = PAYLOAD_BYTES_MAX as u32 + 1024 + 65_536;

/// How long a client without a keep-alive may be silent: the longest there is for others, 18 hours. One that
/// is gone without a word is found by the system before (see `server`).
const SILENCE_SECONDS_MAX: u16 = u16::MAX;

const NO_SUBSCRIPTIONS: &str = "nothing can be subscribed to here: ask over HTTP or SQL";
const BLOCKED: &str = "this device was erased and blocked; an operator can lift that";
const TOPIC_WANTED: &str = "the topic must be city/v1/{tenant}/{domain}/{device}";

impl TryFrom<Error> for v5::PublishAck {
    type Error = Error;

    // Each of them ends the connection: an acknowledgement, even a bad one, would release the payload.
    fn try_from(error: Error) -> Result<v5::PublishAck, Error> {
        Err(error)
    }
}

/// Accepts an MQTT 3.1.1 client, if there is room. Until tokens exist a session is bound to no tenant.
pub(super) fn welcome_v3(worker: &Rc<Worker>, handshake: v3::Handshake) -> v3::HandshakeAck<Rc<Session>> {
    let client_id = handshake.packet().client_id.clone();
    if client_id.len() > CLIENT_ID_BYTES_MAX {
        return handshake.identifier_rejected();
    }
    let sink = Sink::V3(handshake.sink());
    let Some(session) = worker.guests.enter(worker, number(handshake.io()), None, &client_id, sink) else {
        return handshake.service_unavailable();
    };
    let no_keep_alive = handshake.packet().keep_alive == 0;
    let mut ack = handshake.ack(session, false);
    // A client cannot be told that its packet is too large, so all are read, large ones in pieces; one byte
    // less than there may be, so that there is a length that ends the connection (see `frames`).
    ack = ack.max_packet_size(NonZeroU32::new(PACKET_BYTES_MAX - 1).expect("a constant above zero"));
    if no_keep_alive { ack.idle_timeout(Seconds(SILENCE_SECONDS_MAX)) } else { ack }
}

/// Accepts an MQTT 5 client, if there is room, and tells it what there is not.
pub(super) fn welcome_v5(worker: &Rc<Worker>, handshake: v5::Handshake) -> v5::HandshakeAck<Rc<Session>> {
    let client_id = handshake.packet().client_id.clone();
    if client_id.len() > CLIENT_ID_BYTES_MAX {
        return handshake.failed(ConnectAckReason::ClientIdentifierNotValid);
    }
    let sink = Sink::V5(handshake.sink());
    let Some(session) = worker.guests.enter(worker, number(handshake.io()), None, &client_id, sink) else {
        return handshake.failed(ConnectAckReason::QuotaExceeded);
    };
    let no_keep_alive = handshake.packet().keep_alive == 0;
    // There is no session to find again by its name, but the protocol wants one given.
    let name = client_id.is_empty().then(|| format!("session-{}", session.id).into());
    let ack = handshake.ack(session).with(|packet| {
        packet.session_expiry_interval_secs = Some(0);
        packet.max_packet_size = Some(PACKET_BYTES_ANNOUNCED);
        // The library forgets no packet id of a QoS 2 publish, so that a thousand of them would be the end.
        packet.max_qos = QoS::AtLeastOnce;
        packet.retain_available = false;
        packet.wildcard_subscription_available = false;
        packet.subscription_identifiers_available = false;
        packet.shared_subscription_available = false;
        packet.assigned_client_id = name;
    });
    if no_keep_alive { ack.keep_alive(SILENCE_SECONDS_MAX) } else { ack }
}

/// The number of a connection, from our end of it.
fn number(io: &IoBoxed) -> u64 {
    io.query::<Number>().get().expect("every connection was given its number when it came").0
}

/// Answers an MQTT 3.1.1 client that does not publish.
pub(super) fn answer_v3(session: &Session, message: v3::ProtocolMessage) -> v3::ProtocolMessageAck {
    match message {
        v3::ProtocolMessage::PublishRelease(release) => {
            session.end_release();
            release.ack()
        }
        v3::ProtocolMessage::Subscribe(mut subscribe) => {
            subscribe.iter_mut().for_each(|mut filter| filter.fail());
            subscribe.ack()
        }
        v3::ProtocolMessage::Unsubscribe(unsubscribe) => unsubscribe.ack(),
        other => other.ack(),
    }
}

/// Answers an MQTT 5 client that does not publish.
pub(super) fn answer_v5(message: v5::ProtocolMessage) -> v5::ProtocolMessageAck {
    match message {
        v5::ProtocolMessage::Subscribe(mut subscribe) => {
            subscribe.iter_mut().for_each(|mut filter| filter.fail(SubscribeAckReason::NotAuthorized));
            subscribe.ack_reason(ByteString::from_static(NO_SUBSCRIPTIONS)).ack()
        }
        v5::ProtocolMessage::Unsubscribe(mut unsubscribe) => {
            unsubscribe.iter_mut().for_each(|mut filter| filter.success());
            unsubscribe.ack()
        }
        other => other.ack(),
    }
}

/// Keeps what an MQTT 3.1.1 client publishes, whatever it is; but for whom is blocked.
pub(super) fn publish_v3(
    session: Rc<Session>,
    mut publish: v3::Publish,
) -> impl Future<Output = Result<(), Error>> {
    let payload = publish.take_payload();
    let kept = match of_v3(&publish, &payload).keep_now(&session) {
        Some(submitted) => Either::Left(ready(submitted)),
        None => {
            let session = session.clone();
            let kept = async move { of_v3(&publish, &payload).keep_or_let_fall(&session).await };
            Either::Right(kept.boxed_local())
        }
    };
    async move { kept.await?.synced(&session).await }
}

/// Keeps what an MQTT 5 client publishes, or says why not.
pub(super) fn publish_v5(
    session: Rc<Session>,
    mut publish: v5::Publish,
) -> impl Future<Output = Result<v5::PublishAck, Error>> {
    let payload = publish.take_payload();
    let one = of_v5(&publish, &payload);
    let now = if one.refusal(&session).is_none() { one.keep_now(&session) } else { None };
    let kept = match now {
        Some(submitted) => Either::Left(ready(submitted.map(Ok))),
        None => {
            let session = session.clone();
            let kept = async move { of_v5(&publish, &payload).keep_or_refuse(&session).await };
            Either::Right(kept.boxed_local())
        }
    };
    async move {
        Ok(match kept.await? {
            Ok(submitted) => {
                submitted.synced(&session).await?;
                v5::PublishAck::new(PublishAckReason::Success)
            }
            Err(Refusal::Topic) => v5::PublishAck::new(PublishAckReason::TopicNameInvalid)
                .reason(ByteString::from_static(TOPIC_WANTED)),
            Err(Refusal::Blocked) => {
                v5::PublishAck::new(PublishAckReason::NotAuthorized).reason(ByteString::from_static(BLOCKED))
            }
            Err(Refusal::TooLarge(bytes)) => v5::PublishAck::new(PublishAckReason::QuotaExceeded)
                .reason(format!("the payload has {bytes} bytes, the limit is {PAYLOAD_BYTES_MAX}").into()),
        })
    }
}

fn of_v3<'a>(publish: &'a v3::Publish, payload: &'a Payload) -> Publish<'a> {
    Publish {
        topic: publish.publish_topic(),
        qos: publish.qos(),
        packet_bytes: publish.packet_size() as usize,
        payload,
        payload_bytes: publish.payload_size(),
    }
}

fn of_v5<'a>(publish: &'a v5::Publish, payload: &'a Payload) -> Publish<'a> {
    Publish {
        topic: publish.publish_topic(),
        qos: publish.qos(),
        packet_bytes: publish.packet_size() as usize,
        payload,
        payload_bytes: publish.payload_size(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of them waits for each payload that is on its way to disk.
    #[test]
    fn handlers_stay_small() {
        fn bytes<P, F>(_: impl Fn(Rc<Session>, P) -> F) -> usize {
            size_of::<F>()
        }
        assert!(bytes(publish_v3) <= 256, "{}", bytes(publish_v3));
        assert!(bytes(publish_v5) <= 384, "{}", bytes(publish_v5));
    }
}
