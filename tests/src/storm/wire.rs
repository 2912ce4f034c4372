//! MQTT as bytes: packets put together by hand, and a connection that costs one socket and one buffer.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::load::wire::length;

/// How long an answer to a dial or a CONNECT may take in a storm.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A packet with its length.
pub fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    length(body.len(), &mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

/// A CONNECT with a clean start. `version` is 4 (3.1.1) or 5.
pub fn connect(version: u8, client_id: &str, keep_alive_seconds: u16) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', version, 2];
    body.extend_from_slice(&keep_alive_seconds.to_be_bytes());
    if version == 5 {
        body.push(0);
    }
    body.extend_from_slice(&(client_id.len() as u16).to_be_bytes());
    body.extend_from_slice(client_id.as_bytes());
    packet(0x10, &body)
}

/// A QoS 1 PUBLISH.
pub fn publish(version: u8, id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(&id.to_be_bytes());
    if version == 5 {
        body.push(0);
    }
    body.extend_from_slice(payload);
    packet(0x32, &body)
}

/// An open connection.
pub struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    /// Dials, and says nothing.
    pub async fn dial(addr: SocketAddr) -> io::Result<Wire> {
        let stream = timeout(PATIENCE, TcpStream::connect(addr)).await??;
        stream.set_nodelay(true)?;
        Ok(Wire { stream, unread: Vec::new() })
    }

    /// Dials and introduces itself; an error where that is not accepted.
    pub async fn introduce(
        addr: SocketAddr,
        version: u8,
        client_id: &str,
        keep_alive_seconds: u16,
    ) -> io::Result<Wire> {
        let mut wire = Wire::dial(addr).await?;
        wire.send(&connect(version, client_id, keep_alive_seconds)).await?;
        match timeout(PATIENCE, wire.receive()).await?? {
            (0x20, body) if body.get(1) == Some(&0) => Ok(wire),
            (kind, body) => Err(io::Error::other(format!("refused: {kind:#x} {body:?}"))),
        }
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends bytes while reading what comes, which a peer that waits for its reader needs.
    pub async fn send_and_read(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut chunk = [0; 4096];
        while !bytes.is_empty() {
            let (mut reading, mut writing) = self.stream.split();
            tokio::select! {
                written = writing.write(bytes) => bytes = &bytes[written?..],
                read = reading.read(&mut chunk) => match read? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => self.unread.extend_from_slice(&chunk[..read]),
                },
            }
        }
        Ok(())
    }

    /// The next packet: its first byte and its body.
    pub async fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            if let Some((kind, head, len)) = self.header()
                && self.unread.len() >= head + len
            {
                let body = self.unread[head..head + len].to_vec();
                self.unread.drain(..head + len);
                return Ok((kind, body));
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.unread.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// Waits until the other side closes.
    pub async fn closed(&mut self) {
        while self.receive().await.is_ok() {}
    }

    /// Kind of the next packet, length of its header, and of its body; none where they have not come.
    fn header(&self) -> Option<(u8, usize, usize)> {
        let kind = *self.unread.first()?;
        let mut len = 0;
        for (at, byte) in self.unread.iter().skip(1).enumerate().take(4) {
            len |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Some((kind, at + 2, len));
            }
        }
        None
    }
}
