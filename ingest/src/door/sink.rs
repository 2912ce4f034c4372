//! The sending half of a connection, by which it is closed.

use ntex_mqtt::{v3, v5};

/// Why we end a connection that did nothing wrong in its last packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// The door closes.
    Closing,
    /// Another connection has its client id now.
    TakenOver,
    /// Its tenant has too many connections.
    TooMany,
}

/// The sending half, of either protocol.
pub(super) enum Sink {
    /// MQTT 3.1.1.
    V3(v3::MqttSink),
    /// MQTT 5.
    V5(v5::MqttSink),
}

impl Sink {
    /// Whether it is not closed yet.
    pub fn is_open(&self) -> bool {
        match self {
            Sink::V3(sink) => sink.is_open(),
            Sink::V5(sink) => sink.is_open(),
        }
    }

    /// Closes, and says why where the protocol can.
    pub fn close(&self, farewell: Farewell) {
        use v5::codec::DisconnectReasonCode as Reason;
        let reason = match farewell {
            Farewell::Closing => Reason::ServerShuttingDown,
            Farewell::TakenOver => Reason::SessionTakenOver,
            Farewell::TooMany => Reason::QuotaExceeded,
        };
        match self {
            Sink::V3(sink) => sink.close(),
            Sink::V5(sink) => sink.close_with_reason(v5::codec::Disconnect::new(reason)),
        }
    }
}
