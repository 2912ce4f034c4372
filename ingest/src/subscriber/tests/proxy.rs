//! A wire to a broker that can be cut, and remembers which publishes and acknowledgements went over it.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What went over the wire, with its packet id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The broker sent a publish.
    Publish(u16),
    /// The client acknowledged one.
    Ack(u16),
}

/// The wire; each connection has a list of its own.
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    connections: Arc<Mutex<Vec<Vec<Seen>>>>,
    cut: watch::Sender<bool>,
}

impl Proxy {
    /// Lays a wire to the broker on `port`.
    pub async fn start(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (cut, is_cut) = watch::channel(false);
        let connections = Arc::new(Mutex::new(Vec::new()));
        let proxy = Proxy { port: listener.local_addr().expect("bound").port(), connections, cut };
        let connections = proxy.connections.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !*is_cut.borrow() {
                    tokio::spawn(relay(client, port, connections.clone(), is_cut.clone()));
                }
            }
        });
        proxy
    }

    /// Cuts all connections and lets none through, or mends the wire.
    pub fn cut(&self, cut: bool) {
        self.cut.send(cut).expect("the proxy runs");
    }

    /// What went over each connection.
    pub fn seen(&self) -> Vec<Vec<Seen>> {
        self.connections.lock().expect("nobody panicked").clone()
    }
}

async fn relay(
    client: TcpStream,
    port: u16,
    connections: Arc<Mutex<Vec<Vec<Seen>>>>,
    mut is_cut: watch::Receiver<bool>,
) {
    let Ok(broker) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let index = {
        let mut connections = connections.lock().expect("nobody panicked");
        connections.push(Vec::new());
        connections.len() - 1
    };
    let note = |seen: Option<Seen>| connections.lock().expect("nobody panicked")[index].extend(seen);
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    tokio::select! {
        _ = pass(from_client, to_broker, &note) => {}
        _ = pass(from_broker, to_client, &note) => {}
        _ = is_cut.wait_for(|cut| *cut) => {}
    }
}

/// Passes packets on until either side is gone.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    note: &impl Fn(Option<Seen>),
) -> std::io::Result<()> {
    loop {
        let (packet, head) = read_packet(&mut from).await?;
        note(seen(&packet, head));
        to.write_all(&packet).await?;
    }
}

/// One MQTT packet as it is, and how many bytes its fixed header takes.
pub async fn read_packet(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(Vec<u8>, usize)> {
    let mut packet = vec![from.read_u8().await?];
    let (mut len, mut shift) = (0, 0);
    loop {
        let byte = from.read_u8().await?;
        packet.push(byte);
        len |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    let head = packet.len();
    packet.resize(head + len, 0);
    from.read_exact(&mut packet[head..]).await?;
    Ok((packet, head))
}

fn seen(packet: &[u8], head: usize) -> Option<Seen> {
    let number = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    match packet[0] {
        0x40 => Some(Seen::Ack(number(head))),
        publish if publish >> 4 == 3 && publish & 0b0110 != 0 => {
            Some(Seen::Publish(number(head + 2 + usize::from(number(head)))))
        }
        _ => None,
    }
}
