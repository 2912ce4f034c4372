//! The way to the broker: TCP, and in a program with the feature `tls`, TLS over it.

use embassy_net::{IpEndpoint, Stack, tcp::TcpSocket};
use embassy_time::Duration;
#[cfg(feature = "tls")]
use static_cell::ConstStaticCell;
use static_cell::StaticCell;
#[cfg(feature = "tls")]
use zeugma_firmware::tls::{Buffers, Tls};
use zeugma_firmware::{
    board::{Dial, Lost},
    random::Random,
    settings::Settings,
};

#[cfg(feature = "tls")]
use crate::guessable::Guessable;

/// A connection that carries nothing, not even a keep-alive's answer, is given up after this long.
const SILENCE_MAX: Duration = Duration::from_secs(40);
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The largest publish, and what is received meanwhile.
const TX_BYTES: usize = 1536;
const RX_BYTES: usize = 512;

/// Whether this program speaks TLS; it then speaks nothing else.
pub const HAS_TLS: bool = cfg!(feature = "tls");

/// The broker, over TCP.
pub struct Tcp {
    stack: Stack<'static>,
    broker: IpEndpoint,
    rx: [u8; RX_BYTES],
    tx: [u8; TX_BYTES],
}

impl Dial for Tcp {
    type Io<'a> = TcpSocket<'a>;

    async fn dial(&mut self) -> Result<TcpSocket<'_>, Lost> {
        let mut socket = TcpSocket::new(self.stack, &mut self.rx, &mut self.tx);
        socket.set_timeout(Some(SILENCE_MAX));
        socket.set_keep_alive(Some(KEEP_ALIVE));
        // Small packets must not wait for each other.
        socket.set_nagle_enabled(false);
        socket.connect(self.broker).await.map_err(|_| Lost::Unreachable)?;
        Ok(socket)
    }
}

/// As it is.
#[cfg(not(feature = "tls"))]
pub type ToBroker = Tcp;
/// Under the key of the settings.
#[cfg(feature = "tls")]
pub type ToBroker = Tls<'static, Tcp, Guessable>;

/// The way to the settings' broker. To be called once.
pub fn way(stack: Stack<'static>, settings: &'static Settings, random: Random) -> &'static mut ToBroker {
    static WAY: StaticCell<ToBroker> = StaticCell::new();
    let broker = settings.broker.into();
    WAY.init_with(|| cover(Tcp { stack, broker, rx: [0; RX_BYTES], tx: [0; TX_BYTES] }, settings, random))
}

#[cfg(not(feature = "tls"))]
fn cover(tcp: Tcp, _: &Settings, _: Random) -> ToBroker {
    tcp
}

#[cfg(feature = "tls")]
fn cover(tcp: Tcp, settings: &'static Settings, random: Random) -> ToBroker {
    static BUFFERS: ConstStaticCell<Buffers> = ConstStaticCell::new(Buffers::new());
    let key = settings.key.as_ref().expect("settings without a key are not taken");
    Tls::new(tcp, key, Guessable(random), BUFFERS.take())
}
