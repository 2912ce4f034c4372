//! The outbox on flash: what outlives a loss of power, what is dropped and counted, and what a damaged flash does.

mod cuts;
mod nor;

use std::{
    collections::VecDeque,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use embassy_time::Instant;
use zeugma_firmware::{
    batch::{Batch, Format},
    clock::Moment,
    flash::FlashFailed,
    outbox::Outbox,
    random::Random,
    schedule::Channel,
};
use zeugma_schemas::domains::avro_head;

use nor::Nor;

const START_US: i64 = 1_790_000_000_000_000;

/// Small, so that it is often full and often read anew.
type Small = Outbox<'static, Nor, 8, 256>;

/// Opens an outbox in memory that nobody takes back, as a start of the device does.
fn open<const R: usize, const B: usize>(nor: &Nor) -> Result<Outbox<'static, Nor, R, B>, FlashFailed> {
    now(Outbox::open(nor.clone(), 0, Box::leak(Box::default())))
}

fn small(nor: &Nor) -> Result<Small, FlashFailed> {
    open(nor)
}

/// Flash in memory never waits.
fn now<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("memory does not wait"),
    }
}

fn moment(us: u64) -> Moment {
    Moment { at: Instant::from_micros(us), time_us: Some(START_US + us as i64), utc_offset_s: 0 }
}

fn before_the_time_is_known(us: u64) -> Moment {
    Moment { time_us: None, ..moment(us) }
}

/// A reading, as it is published.
#[derive(Debug, Clone, PartialEq)]
struct Reading {
    seq: u32,
    time_us: i64,
    fields: Vec<u8>,
}

impl Reading {
    /// The `seq`-th, of 9 to 24 bytes.
    fn taken(seq: u32, time_us: i64) -> Reading {
        Reading { seq, time_us, fields: vec![seq as u8; 9 + seq as usize % 16] }
    }

    fn frame(&self) -> Vec<u8> {
        let mut buf = [0; 64];
        let len = avro_head(1, self.time_us, self.seq.into(), &mut buf).expect("room for a head");
        [&buf[..len], &self.fields].concat()
    }
}

/// The payload of the next batch of up to `count_max` readings, under way as `ticket`.
fn gather<const R: usize, const B: usize>(
    outbox: &mut Outbox<'_, Nor, R, B>,
    channel: Channel,
    ticket: u8,
    count_max: usize,
) -> (usize, Vec<u8>) {
    now(outbox.fill());
    let mut buf = [0; 4096];
    let mut batch = Batch::new(Format::Avro, 1, count_max, &mut buf);
    let count = outbox.gather(channel, ticket, &mut batch);
    let place = batch.finish();
    (count, buf[place].to_vec())
}

/// All readings of `channel` in the order in which they are sent, each as its frame; they leave the outbox.
fn drain<const R: usize, const B: usize>(
    outbox: &mut Outbox<'_, Nor, R, B>,
    channel: Channel,
) -> VecDeque<Vec<u8>> {
    let mut frames = VecDeque::new();
    loop {
        let (count, frame) = gather(outbox, channel, 0, 1);
        if count == 0 {
            return frames;
        }
        now(outbox.delivered(0));
        frames.push_back(frame);
    }
}

#[test]
fn readings_outlive_a_loss_of_power_and_leave_once() {
    let nor = Nor::new(8);
    let mut outbox = small(&nor).expect("flash");
    for seq in 0..40 {
        now(outbox.push(Channel::Sensor, &moment(seq), &Reading::taken(seq as u32, 0).fields));
    }
    let mut outbox = small(&nor).expect("flash");
    assert_eq!((outbox.len(), outbox.boot(), outbox.dropped()), (40, 2, 0));
    let frames = drain(&mut outbox, Channel::Sensor);
    let expected: Vec<_> =
        (0..40).map(|seq| Reading::taken(seq, START_US + i64::from(seq)).frame()).collect();
    assert_eq!(frames, expected);
    let outbox = small(&nor).expect("flash");
    assert_eq!((outbox.len(), outbox.boot()), (0, 3));
}

#[test]
fn numbers_and_times_go_on_where_they_ended_even_if_the_clock_went_back_and_nothing_is_left() {
    let nor = Nor::new(8);
    let mut outbox = small(&nor).expect("flash");
    for channel in Channel::ALL {
        now(outbox.push(channel, &moment(5_000_000), b"first"));
        assert_eq!(drain(&mut outbox, channel).len(), 1);
    }
    let mut outbox = small(&nor).expect("flash");
    for channel in Channel::ALL {
        now(outbox.push(channel, &moment(1_000), b"second"));
        let expected = Reading { seq: 1, time_us: START_US + 5_000_001, fields: b"second".to_vec() };
        assert_eq!(drain(&mut outbox, channel), [expected.frame()]);
    }
}

#[test]
fn what_a_sensor_counted_until_its_last_reading_outlives_a_loss_of_power() {
    let nor = Nor::new(8);
    let mut outbox = small(&nor).expect("flash");
    assert_eq!(outbox.counter(), None);
    for (seq, is_delivered) in [(0, false), (1, true)] {
        outbox.count(Some(1_000 + seq));
        now(outbox.push(Channel::Sensor, &moment(seq), b"reading"));
        now(outbox.push(Channel::Health, &moment(seq), b"report"));
        if is_delivered {
            drain(&mut outbox, Channel::Sensor);
        }
        // Counted, and not reported before the power goes.
        outbox.count(Some(5_000));
        outbox = small(&nor).expect("flash");
        assert_eq!(outbox.counter(), Some(1_000 + seq));
    }
}

#[test]
fn oldest_are_dropped_first_when_full_and_counted_across_starts() {
    let nor = Nor::new(6);
    let mut outbox = small(&nor).expect("flash");
    let count = 400;
    let mut dropped = 0;
    for seq in 0..count {
        dropped += now(outbox.push(Channel::Sensor, &moment(seq.into()), &Reading::taken(seq, 0).fields));
    }
    assert!(dropped > 200, "{dropped}");
    assert_eq!((outbox.len() as u32, outbox.dropped()), (count - dropped, dropped));
    let mut outbox = small(&nor).expect("flash");
    assert_eq!((outbox.len() as u32, outbox.dropped()), (count - dropped, dropped));
    let kept: Vec<_> =
        (dropped..count).map(|seq| Reading::taken(seq, START_US + i64::from(seq)).frame()).collect();
    assert_eq!(drain(&mut outbox, Channel::Sensor), kept);
}

#[test]
fn readings_from_before_the_time_was_known_get_it_once_and_keep_it_after_a_loss_of_power() {
    let nor = Nor::new(8);
    let mut outbox = small(&nor).expect("flash");
    for seq in 0..20 {
        now(outbox.push(Channel::Sensor, &before_the_time_is_known(1_000 * seq), &[seq as u8]));
    }
    assert_eq!(gather(&mut outbox, Channel::Sensor, 0, 99).0, 0, "nothing leaves without a time");
    now(outbox.anchor(&moment(60_000)));
    now(outbox.push(Channel::Sensor, &moment(70_000), &[20]));
    let first = gather(&mut outbox, Channel::Sensor, 0, 99).1;
    let mut outbox = small(&nor).expect("flash");
    // The clock of the next start is an hour ahead: what has a time keeps it.
    now(outbox.push(Channel::Sensor, &moment(3_600_000_000), &[21]));
    let frames = drain(&mut outbox, Channel::Sensor);
    let at_ms: Vec<i64> = (0..20).chain([70, 3_600_000]).collect();
    let frame = |(seq, ms): (usize, &i64)| {
        Reading { seq: seq as u32, time_us: START_US + ms * 1_000, fields: vec![seq as u8] }.frame()
    };
    let expected: Vec<_> = at_ms.iter().enumerate().map(frame).collect();
    assert_eq!(frames, expected);
    assert!(first.starts_with(&expected[..8].concat()), "the same bytes on every retry");
}

#[test]
fn readings_of_an_earlier_start_that_never_knew_the_time_are_dropped_and_counted() {
    let nor = Nor::new(8);
    let mut outbox = small(&nor).expect("flash");
    now(outbox.push(Channel::Sensor, &before_the_time_is_known(1), b"lost"));
    now(outbox.push(Channel::Health, &before_the_time_is_known(2), b"lost"));
    let mut outbox = small(&nor).expect("flash");
    now(outbox.push(Channel::Sensor, &before_the_time_is_known(3), b"kept"));
    now(outbox.anchor(&moment(1_000)));
    let expected = Reading { seq: 1, time_us: START_US + 3, fields: b"kept".to_vec() };
    assert_eq!(drain(&mut outbox, Channel::Sensor), [expected.frame()]);
    assert_eq!((outbox.len(), outbox.dropped()), (0, 2));
    assert_eq!(small(&nor).expect("flash").dropped(), 2);
}

#[test]
fn batch_whose_older_neighbour_is_under_way_takes_none_of_it_along() {
    let nor = Nor::new(8);
    let mut outbox = open::<32, 1024>(&nor).expect("flash");
    for seq in 0..9 {
        now(outbox.push(Channel::Sensor, &moment(seq), &[seq as u8]));
    }
    // Three are refused while the three behind them are under way.
    assert_eq!(gather(&mut outbox, Channel::Sensor, 0, 3).0, 3);
    assert_eq!(gather(&mut outbox, Channel::Sensor, 1, 3).0, 3);
    outbox.release(0);
    assert_eq!(gather(&mut outbox, Channel::Sensor, 2, 9).0, 3);
    assert_eq!(now(outbox.delivered(2)), 3);
    let mut outbox = open::<32, 1024>(&nor).expect("flash");
    assert_eq!(outbox.len(), 6);
    assert_eq!(drain(&mut outbox, Channel::Sensor).len(), 6);
}

#[test]
fn pages_wear_evenly() {
    let nor = Nor::new(16);
    let mut outbox = small(&nor).expect("flash");
    for seq in 0..20_000 {
        now(outbox.push(Channel::Sensor, &moment(seq), &Reading::taken(seq as u32, 0).fields));
        gather(&mut outbox, Channel::Sensor, 0, 1);
        now(outbox.delivered(0));
    }
    let erased = &nor.0.borrow().erased;
    let (memory, queue) = erased.split_at(4);
    for pages in [memory, queue] {
        let (least, most) = (pages.iter().min().expect("a page"), pages.iter().max().expect("a page"));
        assert!(*least > 20 && most - least <= 1, "{erased:?}");
    }
}

#[test]
fn device_whose_flash_is_damaged_goes_on_and_counts_what_it_loses_from_then_on() {
    let mut random = Random::seeded(5);
    let (mut lost, mut dropped) = (0, 0);
    for round in 0..500 {
        let nor = Nor::new(8);
        let mut outbox = small(&nor).expect("flash");
        for seq in 0..60 {
            now(outbox.push(Channel::Sensor, &moment(seq), &Reading::taken(seq as u32, 0).fields));
        }
        // Some bytes, or all: a chip that held something else before.
        let hits = if round % 5 == 0 { 100_000 } else { 1 + random.below(40) };
        for _ in 0..hits {
            let mut cells = nor.0.borrow_mut();
            let at = random.below(cells.bytes.len() as u64) as usize;
            cells.bytes[at] = random.bits() as u8;
        }
        let mut outbox = small(&nor).expect("a flash that works can be used, whatever it holds");
        lost += usize::from(outbox.was_damaged());
        let (found, dropped_before) = (outbox.len(), outbox.dropped());
        for seq in 1_000..1_010 {
            now(outbox.push(Channel::Sensor, &moment(seq), &Reading::taken(seq as u32, 0).fields));
        }
        let delivered = drain(&mut outbox, Channel::Sensor).len();
        assert_eq!(delivered + (outbox.dropped() - dropped_before) as usize, found + 10);
        dropped += outbox.dropped() - dropped_before;
    }
    println!("{lost} of 500 were damaged beyond reading, {dropped} readings were dropped");
    assert!((10..=400).contains(&lost), "{lost}");
}

#[test]
fn untimed_readings_of_an_earlier_start_get_no_wrong_time_where_the_count_of_starts_is_lost() {
    let nor = Nor::new(8);
    let mut outbox = small(&nor).expect("flash");
    for us in 1..4 {
        now(outbox.push(Channel::Sensor, &before_the_time_is_known(us), b"lost"));
    }
    // The first two pages hold the memory.
    nor.0.borrow_mut().bytes[..2 * nor::PAGE_BYTES].fill(0x5a);
    let mut outbox = small(&nor).expect("flash");
    assert!(outbox.was_damaged());
    assert_eq!(outbox.boot(), 2);
    now(outbox.anchor(&moment(1_000_000)));
    assert_eq!(drain(&mut outbox, Channel::Sensor).len(), 0);
    assert_eq!(outbox.dropped(), 3);
}

#[test]
fn blank_flash_is_not_damaged() {
    assert!(!small(&Nor::new(8)).expect("flash").was_damaged());
}
