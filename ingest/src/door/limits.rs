//! The door's limits, and what memory they add up to.
//!
//! Going over a limit slows whoever goes over it: its connections are not read further until it is below
//! again. Only what would take the place of others is refused instead: a connection too many. In favour of a
//! new connection goes one that has never published, if there is one.
//!
//! Packets that were read at once are taken together: a limit is passed by what one read held
//! ([`UNREAD_BYTES_MAX`]) at most, for each connection (see `gate`).
//!
//! Until there are tokens a session is bound to no tenant, so the tenant is that of each publish's topic. A
//! connection counts as one of the tenant it first speaks for, and one that speaks for several tenants is
//! slowed by the slowest of them.
//!
//! # The sum
//!
//! | what | at most | with the defaults |
//! |---|---|--:|
//! | read and not taken apart | ([`Limits::connections`] + strangers) x ([`UNREAD_BYTES_MAX`] + [`READ_BYTES`]) | 15,000 x 24 KiB = 352 MiB |
//! | topic aliases | [`Limits::connections`] x [`ALIASES_MAX`] x [`TOPIC_BYTES_MAX`] | 12,000 x 8 KiB = 94 MiB |
//! | beginnings of payloads that are too large | [`Limits::connections`] x 4 KiB | 47 MiB |
//! | payloads that come in pieces | [`LARGE_BYTES_MAX`] and one payload of each worker | 65 MiB |
//! | waiting for the sync | [`IN_FLIGHT_BYTES_MAX`], and what moved here from the first line | 64 MiB |
//! | their handlers | [`IN_FLIGHT_MAX`] x about 2 KiB | 64 MiB |
//!
//! That is what thousands of guests reach who all do the worst at once. A connection that is silent, or has
//! sent whole packets only, holds no buffer. The journal has limits of its own behind these.

use zeugma_schemas::limits::PAYLOAD_BYTES_MAX;

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections in all. A country of 332 municipalities with 30 vehicles each makes 9,960; meters and
    /// sensors come by gateways and brokers. With the strangers beside them (a quarter: 3,000) and a thousand
    /// files of the lake, 16,384 open files are enough.
    pub connections: usize,
    /// Connections of one tenant: half of them, so that no tenant alone keeps the others out.
    pub tenant_connections: usize,
    /// Bytes of PUBLISH packets a second, in all; 0 is no limit. A million devices that send 100 bytes every
    /// 10 s make 10 MB/s; after an hour without a network their 36 GB take five minutes at this rate, and a
    /// usual disk (500 MB/s) writes it twice, to the journal and to the lake.
    pub rate_bytes: u64,
    /// Bytes of PUBLISH packets a second of one tenant; 0 is no limit. Three times what the whole country
    /// above sends, and a quarter of what is taken in all.
    pub tenant_rate_bytes: u64,
    /// Bytes of one tenant that may wait for their sync: a quarter of what the journal gathers (64 MiB).
    pub tenant_in_flight_bytes: usize,
    /// Bytes of one tenant's payloads that come in pieces: 64 of the largest at once.
    pub tenant_large_bytes: usize,
    /// How long a payload that comes in pieces may take: 256 KiB need 75 s over GPRS (28 kbit/s).
    pub payload_seconds: u16,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 12_000,
            tenant_connections: 6_000,
            rate_bytes: 128 << 20,
            tenant_rate_bytes: 32 << 20,
            tenant_in_flight_bytes: 16 << 20,
            tenant_large_bytes: 64 * PAYLOAD_BYTES_MAX,
            payload_seconds: 180,
        }
    }
}

impl Limits {
    /// Connections that have not introduced themselves yet; beyond it the one that has been silent for
    /// longest goes, as an honest client speaks at once. At least one for each worker there may be.
    pub(super) fn strangers(&self) -> usize {
        (self.connections / 4).max(16)
    }
}

/// Payloads of all connections that may wait for their sync: at 200,000 a second that is a sixth of a second,
/// and a sync takes milliseconds. More would only make whoever comes later wait behind them.
pub const IN_FLIGHT_MAX: usize = 32 << 10;

/// Bytes of all connections that may wait for their sync: as much as the journal gathers for one block.
pub const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;

/// Bytes of one connection that may wait for their sync: a thousand payloads of usual size, or four of
/// the largest.
pub const SESSION_IN_FLIGHT_BYTES_MAX: usize = 1 << 20;

/// Bytes of all payloads that come in pieces, counted by what was announced: 256 of the largest at once.
/// Whoever does not fit waits unread, and holds up nobody with small payloads.
pub const LARGE_BYTES_MAX: usize = 256 * PAYLOAD_BYTES_MAX;

/// What is read from a socket at once.
pub const READ_BYTES: usize = 8 * 1024;

/// Any packet but PUBLISH: a CONNECT with a token as password has 4 KiB; a will is not delivered by us.
pub const PLAIN_PACKET_BYTES_MAX: usize = 8 * 1024;

/// What may be read of a connection without making a whole packet or a piece of a payload: the packet above,
/// or a PUBLISH's topic and properties, and what was read along with its end.
pub const UNREAD_BYTES_MAX: usize = PLAIN_PACKET_BYTES_MAX + READ_BYTES;

/// A topic of ours has 187 bytes at most; a wrong one is kept as it was sent, up to this.
pub const TOPIC_BYTES_MAX: usize = 1024;

/// Topics that an MQTT 5 connection may abbreviate: one of each domain for a device, with room.
pub const ALIASES_MAX: u16 = 8;

/// A client id; MQTT wants 23 characters taken, our own devices have up to 64.
pub const CLIENT_ID_BYTES_MAX: usize = 256;

/// Connections that the system takes before we do: a storm of 10,000 is accepted faster than this fills.
/// The system has a limit of its own (`net.core.somaxconn`, 4,096 on Linux).
pub const BACKLOG: i32 = 4_096;

/// A QoS 2 publish of MQTT 3.1.1 whose release has not come holds its id; a client has a few of them open.
pub const UNRELEASED_MAX: usize = 1_000;
