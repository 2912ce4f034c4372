//! The ring against a model: a `VecDeque` of readings, each with the batch it is under way in.

use std::collections::VecDeque;

use proptest::prelude::*;
use zeugma_firmware::{
    anchor::Anchors,
    batch::{Batch, Format},
    record::{Key, Stamp},
    ring::Ring,
    schedule::Channel,
};
use zeugma_schemas::domains::avro_head;

const RECORDS: usize = 8;
const BYTES: usize = 40;

#[derive(Debug, Clone)]
enum Act {
    Push(Channel, usize),
    Gather(Channel, u8, usize),
    Discard(usize),
    Delivered(u8),
    Release(u8),
    ReleaseAll,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Waiting,
    Sent(u8),
    Delivered,
}

#[derive(Debug, Default)]
struct Model {
    readings: VecDeque<(Key, Vec<u8>, State)>,
    dropped: u32,
    next: u32,
}

const FINGERPRINT: u64 = 7;

/// A reading as it is published; its time is its number.
fn frame(key: Key, fields: &[u8]) -> Vec<u8> {
    let mut buf = [0; 32];
    let len = avro_head(FINGERPRINT, key.seq.into(), key.seq.into(), &mut buf).expect("room for a head");
    [&buf[..len], fields].concat()
}

impl Model {
    fn push(&mut self, key: Key, bytes: Vec<u8>) {
        while self.is_full(bytes.len()) {
            let oldest = self.readings.iter().position(|r| r.2 != State::Delivered);
            self.readings.remove(oldest.expect("a full outbox holds something"));
            self.dropped += 1;
        }
        self.readings.push_back((key, bytes, State::Waiting));
    }

    fn is_full(&self, len: usize) -> bool {
        let live = || self.readings.iter().filter(|r| r.2 != State::Delivered).map(|r| r.1.len());
        live().count() == RECORDS || live().sum::<usize>() + len > BYTES
    }

    fn gather(&mut self, channel: Channel, ticket: u8, room: usize) -> Vec<u8> {
        let mut payload = Vec::new();
        for reading in self.readings.iter_mut().filter(|r| r.0.channel == channel) {
            let frame = frame(reading.0, &reading.1);
            match reading.2 {
                State::Waiting if payload.len() + frame.len() <= room => {
                    payload.extend(frame);
                    reading.2 = State::Sent(ticket);
                }
                State::Waiting => break,
                // What is under way in another batch ends this one.
                State::Sent(_) if !payload.is_empty() => break,
                State::Sent(_) | State::Delivered => {}
            }
        }
        payload
    }

    fn mark(&mut self, ticket: Option<u8>, state: State) -> usize {
        let mut count = 0;
        for reading in &mut self.readings {
            if matches!(reading.2, State::Sent(t) if ticket.is_none_or(|wanted| wanted == t)) {
                reading.2 = state.clone();
                count += 1;
            }
        }
        count
    }
}

fn channels() -> impl Strategy<Value = Channel> {
    prop_oneof![3 => Just(Channel::Sensor), 1 => Just(Channel::Health)]
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (channels(), 0usize..20).prop_map(|(c, len)| Act::Push(c, len)),
        3 => (channels(), 0u8..3, 0usize..80).prop_map(|(c, t, room)| Act::Gather(c, t, room)),
        2 => (0u8..3).prop_map(Act::Delivered),
        2 => (0u8..3).prop_map(Act::Release),
        1 => Just(Act::ReleaseAll),
        1 => (0usize..10).prop_map(Act::Discard),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn ring_does_what_a_plain_queue_does(acts in prop::collection::vec(acts(), 1..120)) {
        let mut ring = Ring::<RECORDS, BYTES>::new();
        let mut model = Model::default();
        for act in acts {
            match act {
                Act::Push(channel, len) => {
                    model.next += 1;
                    let (key, bytes) = (Key { channel, seq: model.next }, vec![model.next as u8; len]);
                    let before = model.dropped;
                    let dropped = ring.push(key, Stamp::Time(key.seq.into()), &bytes);
                    model.push(key, bytes);
                    prop_assert_eq!(dropped, model.dropped - before);
                }
                Act::Gather(channel, ticket, room) => {
                    let mut buf = vec![0; room];
                    let mut batch = Batch::new(Format::Avro, FINGERPRINT, usize::MAX, &mut buf);
                    ring.gather(channel, ticket, &mut batch);
                    let place = batch.finish();
                    prop_assert_eq!(&buf[place], model.gather(channel, ticket, room));
                }
                Act::Delivered(ticket) => {
                    prop_assert_eq!(ring.delivered(ticket), model.mark(Some(ticket), State::Delivered));
                }
                Act::Release(ticket) => {
                    prop_assert_eq!(ring.release(ticket), model.mark(Some(ticket), State::Waiting));
                }
                Act::Discard(at) => {
                    if let Some(reading) = model.readings.get_mut(at) {
                        ring.discard(reading.0);
                        reading.2 = State::Delivered;
                    }
                }
                Act::ReleaseAll => {
                    prop_assert_eq!(ring.release_all(), model.mark(None, State::Waiting));
                }
            }
            let unacknowledged = model.readings.iter().filter(|r| r.2 != State::Delivered).count();
            prop_assert_eq!(ring.len(), unacknowledged);
        }
    }
}

#[test]
fn reading_larger_than_the_ring_is_counted_and_costs_no_other() {
    let mut ring = Ring::<4, 10>::new();
    let key = Key { channel: Channel::Sensor, seq: 1 };
    ring.push(key, Stamp::Time(1), b"kept");
    assert_eq!(ring.push(Key { seq: 2, ..key }, Stamp::Time(2), &[0; 11]), 1);
    assert_eq!(ring.len(), 1);
}

#[test]
fn reading_whose_time_is_not_known_is_not_sent() {
    let mut ring = Ring::<4, 10>::new();
    let key = Key { channel: Channel::Sensor, seq: 1 };
    ring.push(key, Stamp::Ticks { boot: 3, us: 10 }, b"a");
    let mut buf = [0; 64];
    assert_eq!(ring.gather(Channel::Sensor, 0, &mut Batch::new(Format::Avro, 1, 9, &mut buf)), 0);
    ring.anchor(&Anchors { now: Some([1_000, 0]), ..Anchors::new(3) });
    let mut batch = Batch::new(Format::Json, 1, 9, &mut buf);
    assert_eq!(ring.gather(Channel::Sensor, 0, &mut batch), 1);
    let place = batch.finish();
    assert_eq!(&buf[place], br#"{"time":1010,"seq":1a"#);
}
