//! A broker in memory that does as its script says: refuses, falls silent, cuts, forgets the session.

use std::{cell::RefCell, collections::VecDeque, future::poll_fn, rc::Rc, task::Poll, task::Waker};

use embassy_time::Instant;
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use zeugma_firmware::board::{Dial, Lost};

/// What the broker does with one publish.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    Accept,
    Refuse(u8),
    Silence,
    Cut,
}

/// One publish as it arrived.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub topic: String,
    pub payload: Vec<u8>,
    pub dup: bool,
    pub answer: Answer,
    pub at: Instant,
    /// Of the whole packet.
    pub wire_bytes: usize,
}

type Script = Box<dyn FnMut(usize, &str) -> Answer>;

/// The broker's state, which outlives connections.
pub struct Peer {
    pub arrivals: Vec<Arrival>,
    pub connects: Vec<Vec<u8>>,
    pub dials: usize,
    pub farewells: usize,
    /// The next so many dials fail.
    pub unreachable: usize,
    /// Each connection ends after so many bytes from the device; one budget for each dial.
    pub cuts: VecDeque<usize>,
    /// Whether a returning device finds its session.
    pub keeps_session: bool,
    /// From now on the broker reads nothing more on the connections so numbered.
    pub deaf_on_dial: Option<usize>,
    script: Script,
    generation: usize,
    input: Vec<u8>,
    output: VecDeque<u8>,
    budget: usize,
    open: bool,
    reader: Option<Waker>,
}

/// The device's way to the broker.
#[derive(Clone)]
pub struct Broker(pub Rc<RefCell<Peer>>);

impl Broker {
    pub fn new(script: impl FnMut(usize, &str) -> Answer + 'static) -> Broker {
        Broker(Rc::new(RefCell::new(Peer {
            arrivals: Vec::new(),
            connects: Vec::new(),
            dials: 0,
            farewells: 0,
            unreachable: 0,
            cuts: VecDeque::new(),
            keeps_session: false,
            deaf_on_dial: None,
            script: Box::new(script),
            generation: 0,
            input: Vec::new(),
            output: VecDeque::new(),
            budget: usize::MAX,
            open: false,
            reader: None,
        })))
    }

    /// The objects of all accepted payloads of one domain, in order of arrival.
    pub fn accepted(&self, domain: &str) -> Vec<String> {
        let peer = self.0.borrow();
        let of_domain = |a: &&Arrival| a.topic.contains(domain) && a.answer == Answer::Accept;
        peer.arrivals.iter().filter(of_domain).flat_map(|a| objects(&a.payload)).collect()
    }
}

/// The flat JSON objects of a payload.
pub fn objects(payload: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(payload).expect("JSON is text");
    text.split('{').skip(1).map(|part| part.trim_end_matches([']', ',', '}']).to_owned()).collect()
}

/// One connection; dead once the broker has a newer one.
pub struct Stream {
    peer: Rc<RefCell<Peer>>,
    generation: usize,
}

impl Dial for Broker {
    type Io<'a> = Stream;

    async fn dial(&mut self) -> Result<Stream, Lost> {
        let mut peer = self.0.borrow_mut();
        peer.dials += 1;
        if peer.unreachable > 0 {
            peer.unreachable -= 1;
            return Err(Lost::Unreachable);
        }
        peer.generation = peer.dials;
        peer.input.clear();
        peer.output.clear();
        peer.budget = peer.cuts.pop_front().unwrap_or(usize::MAX);
        peer.open = true;
        Ok(Stream { peer: self.0.clone(), generation: peer.generation })
    }
}

impl ErrorType for Stream {
    type Error = ErrorKind;
}

impl Read for Stream {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, ErrorKind> {
        poll_fn(|cx| {
            let mut peer = self.peer.borrow_mut();
            let len = buf.len().min(peer.output.len());
            if len > 0 || !peer.open || peer.generation != self.generation {
                buf[..len].iter_mut().zip(peer.output.drain(..len)).for_each(|(to, from)| *to = from);
                return Poll::Ready(Ok(len));
            }
            peer.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Write for Stream {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, ErrorKind> {
        if self.peer.borrow().deaf_on_dial == Some(self.generation) {
            std::future::pending::<()>().await;
        }
        let mut peer = self.peer.borrow_mut();
        if !peer.open || peer.generation != self.generation {
            return Err(ErrorKind::ConnectionReset);
        }
        let len = buf.len().min(peer.budget);
        peer.budget -= len;
        peer.input.extend(&buf[..len]);
        peer.react();
        peer.open &= peer.budget > 0;
        if len == 0 { Err(ErrorKind::ConnectionReset) } else { Ok(len) }
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

impl Peer {
    /// Takes every whole packet off the input.
    fn react(&mut self) {
        while let Some((kind, body)) = self.next_packet() {
            match kind >> 4 {
                1 => {
                    self.connects.push(body.clone());
                    let known = self.keeps_session && body[7] & 0x02 == 0;
                    self.output.extend([0x20, 3, u8::from(known), 0, 0]);
                }
                3 => self.publish(kind, &body),
                12 => self.output.extend([0xd0, 0]),
                14 => self.farewells += 1,
                other => panic!("a device sends no packet of kind {other}"),
            }
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
    }

    fn publish(&mut self, kind: u8, body: &[u8]) {
        let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..topic_end].to_vec()).expect("topics are text");
        assert_eq!(kind & 0x06, 0x02, "QoS 1");
        assert_eq!(body[topic_end + 2], 0, "no properties");
        let answer = (self.script)(self.arrivals.len(), &topic);
        match answer {
            Answer::Accept => self.output.extend([0x40, 2, body[topic_end], body[topic_end + 1]]),
            Answer::Refuse(why) => self.output.extend([0x40, 3, body[topic_end], body[topic_end + 1], why]),
            Answer::Silence => {}
            Answer::Cut => self.open = false,
        }
        let payload = body[topic_end + 3..].to_vec();
        let wire_bytes = body.len() + if body.len() < 128 { 2 } else { 3 };
        self.arrivals.push(Arrival {
            topic,
            payload,
            dup: kind & 0x08 != 0,
            answer,
            at: Instant::now(),
            wire_bytes,
        });
    }

    fn next_packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let (mut len, mut at) = (0, 1);
        loop {
            let byte = *self.input.get(at)?;
            len |= usize::from(byte & 0x7f) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if self.input.len() < at + len {
            return None;
        }
        let packet: Vec<u8> = self.input.drain(..at + len).collect();
        Some((packet[0], packet[at..].to_vec()))
    }
}
