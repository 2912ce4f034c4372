//! The outbox against a model: a `VecDeque` of readings, each with the batch it is under way in.

use std::collections::VecDeque;

use proptest::prelude::*;
use zeugma_firmware::{
    batch::{Batch, Format},
    outbox::Outbox,
    schedule::Channel,
};

const RECORDS: usize = 8;
const BYTES: usize = 40;

#[derive(Debug, Clone)]
enum Act {
    Push(Channel, usize),
    Gather(Channel, u8, usize),
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
    readings: VecDeque<(Channel, Vec<u8>, State)>,
    dropped: u64,
    next: u8,
}

impl Model {
    fn push(&mut self, channel: Channel, bytes: Vec<u8>) {
        while self.is_full(bytes.len()) {
            let oldest = self.readings.iter().position(|r| r.2 != State::Delivered);
            self.readings.remove(oldest.expect("a full outbox holds something"));
            self.dropped += 1;
        }
        self.readings.push_back((channel, bytes, State::Waiting));
    }

    fn is_full(&self, len: usize) -> bool {
        let live = || self.readings.iter().filter(|r| r.2 != State::Delivered).map(|r| r.1.len());
        live().count() == RECORDS || live().sum::<usize>() + len > BYTES
    }

    fn gather(&mut self, channel: Channel, ticket: u8, room: usize) -> Vec<u8> {
        let mut payload = Vec::new();
        for reading in self.readings.iter_mut().filter(|r| r.0 == channel && r.2 == State::Waiting) {
            if payload.len() + reading.1.len() > room {
                break;
            }
            payload.extend(&reading.1);
            reading.2 = State::Sent(ticket);
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
        3 => (channels(), 0u8..3, 0usize..50).prop_map(|(c, t, room)| Act::Gather(c, t, room)),
        2 => (0u8..3).prop_map(Act::Delivered),
        2 => (0u8..3).prop_map(Act::Release),
        1 => Just(Act::ReleaseAll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn outbox_does_what_a_plain_queue_does(acts in prop::collection::vec(acts(), 1..120)) {
        let mut outbox = Outbox::<RECORDS, BYTES>::default();
        let mut model = Model::default();
        for act in acts {
            match act {
                Act::Push(channel, len) => {
                    model.next = model.next.wrapping_add(1);
                    let bytes = vec![model.next; len];
                    let before = model.dropped;
                    let dropped = outbox.push(channel, &bytes);
                    model.push(channel, bytes);
                    prop_assert_eq!(dropped, model.dropped - before);
                }
                Act::Gather(channel, ticket, room) => {
                    let mut buf = vec![0; room];
                    let mut batch = Batch::new(Format::Avro, usize::MAX, &mut buf);
                    outbox.gather(channel, ticket, &mut batch);
                    let place = batch.finish();
                    prop_assert_eq!(&buf[place], model.gather(channel, ticket, room));
                }
                Act::Delivered(ticket) => {
                    prop_assert_eq!(outbox.delivered(ticket), model.mark(Some(ticket), State::Delivered));
                }
                Act::Release(ticket) => {
                    prop_assert_eq!(outbox.release(ticket), model.mark(Some(ticket), State::Waiting));
                }
                Act::ReleaseAll => {
                    prop_assert_eq!(outbox.release_all(), model.mark(None, State::Waiting));
                }
            }
            let unacknowledged = model.readings.iter().filter(|r| r.2 != State::Delivered).count();
            prop_assert_eq!(outbox.len(), unacknowledged);
            prop_assert_eq!(outbox.dropped(), model.dropped);
        }
    }
}

#[test]
fn reading_larger_than_the_outbox_is_counted_and_costs_no_other() {
    let mut outbox = Outbox::<4, 10>::default();
    outbox.push(Channel::Sensor, b"kept");
    assert_eq!(outbox.push(Channel::Sensor, &[0; 11]), 1);
    assert_eq!((outbox.len(), outbox.dropped()), (1, 1));
}
