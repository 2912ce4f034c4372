//! A broker for one subscriber that breaks connections on purpose, gives packet ids again, and writes down
//! which it heard acknowledged on which connection.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What went over one connection, in order of sending and of hearing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Packet ids acknowledged before anything was published.
    pub early: Vec<u16>,
    /// Packet ids published.
    pub published: Vec<u16>,
    /// Packet ids acknowledged after that.
    pub acknowledged: Vec<u16>,
}

/// A broker that has lost its session at each connection (MQTT 5).
pub struct FakeBroker {
    listener: TcpListener,
}

impl FakeBroker {
    /// Listens.
    pub async fn start() -> FakeBroker {
        FakeBroker { listener: TcpListener::bind("127.0.0.1:0").await.expect("a free port") }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound port")
    }

    /// Publishes all messages to a topic and breaks the connection after the first so many acknowledgements,
    /// once for each number; what was not acknowledged comes again on the next connection, under packet ids
    /// from 1, as if they had never been given. The last connection stays until all is acknowledged.
    pub async fn publish(&self, topic: &str, messages: Vec<Vec<u8>>, breaks: &[usize]) -> Vec<Heard> {
        let mut left = VecDeque::from(messages);
        let mut all = Vec::new();
        for patience in breaks.iter().copied().chain([usize::MAX]) {
            let (wire, _) = self.listener.accept().await.expect("a connection");
            wire.set_nodelay(true).expect("a socket");
            let mut wire = Wire(wire);
            let heard = wire.converse(topic, &left, patience).await.expect("the subscriber stays");
            left.drain(..heard.acknowledged.len().min(left.len()));
            all.push(heard);
        }
        all
    }
}

struct Wire(TcpStream);

impl Wire {
    async fn converse(
        &mut self,
        topic: &str,
        messages: &VecDeque<Vec<u8>>,
        acknowledgements_max: usize,
    ) -> io::Result<Heard> {
        let mut heard = Heard::default();
        assert_eq!(self.read().await?.0 >> 4, 1, "a CONNECT");
        self.0.write_all(&[0x20, 3, 0, 0, 0]).await?;
        loop {
            match self.read().await? {
                (0x82, body) => {
                    self.0.write_all(&[0x90, 4, body[0], body[1], 0, 1]).await?;
                    break;
                }
                (0x40, body) => heard.early.push(packet_id(&body)),
                other => panic!("a SUBSCRIBE was wanted, not {other:?}"),
            }
        }
        // An acknowledgement that was left over would come now.
        while let Ok(packet) = tokio::time::timeout(Duration::from_millis(300), self.read()).await {
            if let (0x40, body) = packet? {
                heard.early.push(packet_id(&body));
            }
        }
        let mut bytes = Vec::new();
        for (message, id) in messages.iter().zip(1..) {
            publish(&mut bytes, topic, id, message);
            heard.published.push(id);
        }
        self.0.write_all(&bytes).await?;
        let wanted = acknowledgements_max.min(messages.len());
        while heard.acknowledged.len() < wanted {
            match self.read().await? {
                (0x40, body) => heard.acknowledged.push(packet_id(&body)),
                (0xc0, _) => self.0.write_all(&[0xd0, 0]).await?,
                _ => {}
            }
        }
        Ok(heard)
    }

    /// One packet: its first byte and what follows its length.
    async fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let kind = self.0.read_u8().await?;
        let (mut len, mut shift) = (0, 0);
        loop {
            let byte = self.0.read_u8().await?;
            len |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).await?;
        Ok((kind, body))
    }
}

fn packet_id(body: &[u8]) -> u16 {
    u16::from_be_bytes([body[0], body[1]])
}

/// A PUBLISH with QoS 1 and no properties.
fn publish(bytes: &mut Vec<u8>, topic: &str, id: u16, message: &[u8]) {
    bytes.push(0x32);
    let mut len = 2 + topic.len() + 2 + 1 + message.len();
    while len >= 0x80 {
        bytes.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
    bytes.extend((topic.len() as u16).to_be_bytes());
    bytes.extend(topic.as_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.push(0);
    bytes.extend(message);
}
