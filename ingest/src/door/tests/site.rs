//! A door with a journal behind it, and a client that says exactly the bytes it is told to.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    thread::{JoinHandle, ThreadId},
    time::Duration,
};

use zeugma_journal::{Group, Journal, Payload, Record};

use crate::{
    Clock, Metrics,
    door::{Config, Door},
};

/// When everything arrives in these tests, unless they move the clock.
pub const NOW_US: i64 = 1_700_000_000_000_000;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A record, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub topic: String,
    pub bytes: Vec<u8>,
    /// Length and hash before the cut.
    pub cut: Option<(u64, [u8; 32])>,
}

/// A door, its journal and its folder.
pub struct Site {
    pub door: Door,
    pub metrics: Arc<Metrics>,
    pub folder: tempfile::TempDir,
    pub group: Group,
    /// While set, the journal syncs one block and then no other.
    pub stuck: Arc<AtomicBool>,
    /// What its clock says; it stands still unless a test moves it.
    pub now_us: Arc<AtomicI64>,
    /// The thread that looked at it last: the worker that met the last payload.
    looked: Arc<Mutex<ThreadId>>,
    writer: JoinHandle<Result<zeugma_journal::Journal, zeugma_journal::Error>>,
}

impl Site {
    pub fn open() -> Site {
        Self::with(|_| {})
    }

    /// With other settings.
    pub fn with(change: impl FnOnce(&mut Config)) -> Site {
        let folder = tempfile::tempdir().expect("a folder");
        let (journal, _) = Journal::open(folder.path()).expect("a new journal");
        let stuck = Arc::new(AtomicBool::new(false));
        let held = stuck.clone();
        let (group, writer) = Group::start(journal, move |_| {
            while held.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            true
        })
        .expect("a thread");
        let metrics = Arc::new(Metrics::default());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut config = Config { handshake_seconds_max: 1, ..Config::default() };
        change(&mut config);
        let now_us = Arc::new(AtomicI64::new(NOW_US));
        let looked = Arc::new(Mutex::new(std::thread::current().id()));
        let (clock, looks) = (now_us.clone(), looked.clone());
        let clock: Clock = Arc::new(move || {
            *looks.lock().expect("no panic") = std::thread::current().id();
            clock.load(Ordering::SeqCst)
        });
        let door = Door::start_with(config, listener, group.clone(), metrics.clone(), clock);
        Site { door: door.expect("a door"), metrics, folder, group, stuck, now_us, looked, writer }
    }

    /// The thread of the worker that met the last payload.
    pub fn last_worker(&self) -> ThreadId {
        *self.looked.lock().expect("no panic")
    }

    pub fn addr(&self) -> SocketAddr {
        self.door.addr()
    }

    /// Whether these bytes are in the journal's files now.
    pub fn is_on_disk(&self, bytes: &[u8]) -> bool {
        let files = std::fs::read_dir(self.folder.path()).expect("a folder");
        files.flatten().any(|file| {
            let content = std::fs::read(file.path()).expect("a file");
            content.windows(bytes.len()).any(|window| window == bytes)
        })
    }

    /// Stops everything and reads what the journal holds.
    pub fn close(self) -> Vec<Row> {
        self.door.stop();
        self.group.close();
        self.writer.join().expect("no panic").expect("no error");
        let (journal, _) = Journal::open(self.folder.path()).expect("the same journal");
        let blocks: Vec<_> = journal.replay(0).map(|block| block.expect("undamaged")).collect();
        blocks
            .iter()
            .flat_map(|block| block.records().map(|(_, record)| row(&record)).collect::<Vec<_>>())
            .collect()
    }
}

fn row(record: &Record<'_>) -> Row {
    assert!(record.tenant.is_none() && record.received_at_us >= NOW_US);
    let (bytes, cut) = match record.payload {
        Payload::Whole(bytes) => (bytes, None),
        Payload::Cut { kept, bytes, sha256 } => (kept, Some((bytes, sha256))),
        Payload::Again { .. } => panic!("nothing comes again here"),
    };
    Row { topic: record.topic.to_owned(), bytes: bytes.to_owned(), cut }
}

/// A client of version 4 (3.1.1) or 5.
pub struct Client {
    pub socket: TcpStream,
    version: u8,
}

impl Client {
    /// Connects and answers the body of its CONNACK too.
    pub fn connect(addr: SocketAddr, version: u8) -> (Client, Vec<u8>) {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let (client, body) = Self::connect_as(
            addr,
            version,
            &format!("client-{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
            60,
        );
        assert_eq!(body[1], 0, "{body:?}");
        (client, body)
    }

    /// Connects by a client id, with a keep-alive in seconds; the CONNACK says whether it was accepted.
    pub fn connect_as(addr: SocketAddr, version: u8, id: &str, keep_alive: u16) -> (Client, Vec<u8>) {
        let mut client = Self::arrive(addr, version);
        // Clean start, no properties.
        let head = [0, 4, b'M', b'Q', b'T', b'T', version, 2];
        let properties: &[u8] = if version == 5 { &[0] } else { &[] };
        let id = [&(id.len() as u16).to_be_bytes()[..], id.as_bytes()].concat();
        client.send(&packet(0x10, &[&head[..], &keep_alive.to_be_bytes(), properties, &id].concat()));
        let (kind, body) = client.receive().expect("a CONNACK");
        assert_eq!(kind, 0x20, "{body:?}");
        (client, body)
    }

    /// Opens a connection and says nothing.
    pub fn arrive(addr: SocketAddr, version: u8) -> Client {
        let socket = TcpStream::connect(addr).expect("the door listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_nodelay(true).expect("no delay");
        Client { socket, version }
    }

    /// How many acknowledgements come before there is silence for a while, or the end; as long as the site
    /// works there is none, unless its journal is stuck.
    pub fn count_acknowledged(&mut self, site: &Site) -> usize {
        self.socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let mut count = 0;
        loop {
            let before = site.metrics.received.get();
            count += std::iter::from_fn(|| self.receive()).filter(|(kind, _)| *kind == 0x40).count();
            let received = site.metrics.received.get();
            let is_idle = received == site.metrics.synced.get() || site.stuck.load(Ordering::SeqCst);
            if received == before && is_idle {
                break;
            }
        }
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        count
    }

    /// Whether the other side closes, sooner or later.
    pub fn is_closed(&mut self) -> bool {
        loop {
            match self.socket.read(&mut [0; 1024]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the connection is open");
    }

    /// A QoS 1 publish, or QoS 0 with id 0.
    pub fn publish(&mut self, id: u16, topic: &str, payload: &[u8]) {
        let bytes = self.publish_bytes(id, topic, payload);
        self.send(&bytes);
    }

    pub fn publish_bytes(&self, id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
        let mut body = (topic.len() as u16).to_be_bytes().to_vec();
        body.extend_from_slice(topic.as_bytes());
        if id != 0 {
            body.extend_from_slice(&id.to_be_bytes());
        }
        if self.version == 5 {
            body.push(0);
        }
        body.extend_from_slice(payload);
        packet(if id == 0 { 0x30 } else { 0x32 }, &body)
    }

    /// The next packet: its first byte and its body; `None` where the connection is closed.
    pub fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.socket.read_exact(&mut byte).ok()?;
        let (kind, mut len, mut shift) = (byte[0], 0, 0);
        loop {
            self.socket.read_exact(&mut byte).ok()?;
            len |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; len];
        self.socket.read_exact(&mut body).ok()?;
        Some((kind, body))
    }

    /// Expects a PUBACK for `id` and answers its reason and reason string.
    pub fn acknowledged(&mut self, id: u16) -> (u8, String) {
        let (kind, body) = self.receive().expect("a PUBACK");
        assert_eq!((kind, &body[..2]), (0x40, &id.to_be_bytes()[..]), "{body:?}");
        let reason = body.get(2).copied().unwrap_or(0);
        (reason, String::from_utf8_lossy(body.get(3..).unwrap_or_default()).into_owned())
    }

    /// Whether the connection still answers.
    pub fn is_answered(&mut self) -> bool {
        self.socket.write_all(&[0xc0, 0]).is_ok() && self.receive() == Some((0xd0, Vec::new()))
    }
}

/// A packet with its length.
pub fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let (mut bytes, mut len) = (vec![kind], body.len());
    loop {
        let low = (len & 0x7f) as u8;
        len >>= 7;
        bytes.push(if len > 0 { low | 0x80 } else { low });
        if len == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}
