//! The time from a time server (SNTP, RFC 5905 section 14).

use core::net::SocketAddr;

use embassy_net::{
    IpEndpoint, Stack,
    udp::{PacketMetadata, UdpSocket},
};
use embassy_time::{Duration, Instant, Timer, with_timeout};
use sntpc::{NtpContext, NtpTimestampGenerator, NtpUdpSocket};
use zeugma_firmware::{backoff::Backoff, clock::Clock, random::Random};

/// A clock drifts some seconds a day; once in so long is enough.
const SYNC_EVERY: Duration = Duration::from_secs(3_600);
const ANSWER_MAX: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// An SNTP message.
const NTP_BYTES: usize = 48;

/// Keeps `clock` at the time of `server`, for ever.
pub async fn keep_time(stack: Stack<'static>, server: IpEndpoint, clock: &Clock, random: &mut Random) {
    let mut pause = Backoff::new(PAUSE_MAX);
    loop {
        match with_timeout(ANSWER_MAX, ask_time(stack, server)).await {
            Ok(Some((at, time_us))) => {
                clock.set(at, time_us);
                pause.succeeded();
                Timer::after(SYNC_EVERY).await;
            }
            _ => Timer::after(pause.after_failure(random)).await,
        }
    }
}

/// What time it was at which moment.
async fn ask_time(stack: Stack<'static>, server: IpEndpoint) -> Option<(Instant, i64)> {
    let (mut rx_meta, mut tx_meta) = ([PacketMetadata::EMPTY; 1], [PacketMetadata::EMPTY; 1]);
    let (mut rx, mut tx) = ([0; NTP_BYTES * 2], [0; NTP_BYTES]);
    let mut socket = UdpSocket::new(stack, &mut rx_meta, &mut rx, &mut tx_meta, &mut tx);
    socket.bind(0).ok()?;
    let address = address(server);
    let context = NtpContext::new(SincePowerOn(Instant::MIN));
    let answer = sntpc::get_time(address, &Socket { socket, server }, context).await.ok()?;
    // The server's own time as it answered. The offset that SNTP gives besides reaches 34 years, and this clock
    // stands at 1970.
    let micros = u64::from(sntpc::fraction_to_microseconds(answer.sec_fraction()));
    let time_us = answer.sec().checked_mul(1_000_000)?.checked_add(micros + answer.roundtrip() / 2)?;
    Some((Instant::now(), i64::try_from(time_us).ok()?))
}

/// The device's ticks in the place of a time that it does not know yet.
#[derive(Clone, Copy)]
struct SincePowerOn(Instant);

impl NtpTimestampGenerator for SincePowerOn {
    fn init(&mut self) {
        self.0 = Instant::now();
    }

    fn timestamp_sec(&self) -> u64 {
        self.0.as_secs()
    }

    fn timestamp_subsec_micros(&self) -> u32 {
        (self.0.as_micros() % 1_000_000) as u32
    }
}

/// Speaks to one server only.
struct Socket<'s> {
    socket: UdpSocket<'s>,
    server: IpEndpoint,
}

fn address(endpoint: IpEndpoint) -> SocketAddr {
    SocketAddr::new(endpoint.addr.into(), endpoint.port)
}

impl NtpUdpSocket for Socket<'_> {
    async fn send_to(&self, bytes: &[u8], _to: SocketAddr) -> sntpc::Result<usize> {
        let sent = self.socket.send_to(bytes, self.server).await;
        sent.map(|()| bytes.len()).map_err(|_| sntpc::Error::Network)
    }

    async fn recv_from(&self, bytes: &mut [u8]) -> sntpc::Result<(usize, SocketAddr)> {
        let (len, from) = self.socket.recv_from(bytes).await.map_err(|_| sntpc::Error::Network)?;
        Ok((len, address(from.endpoint)))
    }
}
