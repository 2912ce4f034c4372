//! A wire to a server that can be cut, or frozen so that nobody notices at once.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the wire does with what is put on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    /// Connections stand, and nothing passes.
    Frozen,
    /// Connections break, and new ones are closed at once.
    Cut,
}

/// A wire; all its connections share its fate.
pub struct Wire {
    addr: SocketAddr,
    state: watch::Sender<State>,
}

impl Wire {
    /// Lays a wire to a server.
    pub async fn to(server: SocketAddr) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a bound port");
        let (state, seen) = watch::channel(State::Whole);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *seen.borrow() != State::Cut {
                    tokio::spawn(relay(client, server, seen.clone()));
                }
            }
        });
        Wire { addr, state }
    }

    /// Where its near end is.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Breaks all connections, and each that comes.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Lets all connections stand, and nothing pass.
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    /// Lets everything pass again.
    pub fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

async fn relay(client: TcpStream, server: SocketAddr, seen: watch::Receiver<State>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = seen.clone();
    tokio::select! {
        _ = pass(from_client, to_server, seen.clone()) => {}
        _ = pass(from_server, to_client, seen) => {}
        _ = cut.wait_for(|state| *state == State::Cut) => {}
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut seen: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        if seen.wait_for(|state| *state == State::Whole).await.is_err() {
            return Ok(());
        }
        to.write_all(&piece[..read]).await?;
    }
}
