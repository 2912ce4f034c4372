//! The outbox on flash against a model, with the power going at any word.
//!
//! `ZEUGMA_CUTS=10000 cargo test -p zeugma-firmware --test outbox` tries as many cuts as it is told.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use zeugma_firmware::{random::Random, schedule::Channel};

use super::{
    Reading, START_US, Small, drain, gather, moment,
    nor::{self, Cells, Nor},
    now, small,
};

fn has_power(nor: &Nor) -> bool {
    nor.0.borrow().power != Some(0)
}

/// The same bytes in another flash, which has power.
fn copy(nor: &Nor) -> Nor {
    let cells = nor.0.borrow();
    let (bytes, erased) = (cells.bytes.clone(), cells.erased.clone());
    Nor(Rc::new(RefCell::new(Cells { bytes, erased, power: None })))
}

/// What a device took and delivered, through all its starts.
#[derive(Default)]
struct Life {
    /// Taken and not delivered, the oldest first.
    kept: VecDeque<Reading>,
    /// The reading that was being written when the power went.
    in_doubt: Option<Reading>,
    /// Of the oldest, so many at most were being removed when the power went.
    leaving: usize,
    taken: u32,
    /// Known to be dropped.
    dropped: u32,
    /// Counted as dropped.
    counted: u32,
}

/// How full the flash becomes in a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    /// Seldom, and often it is empty.
    Little,
    /// Nearly always.
    Full,
}

/// No page holds more readings than this.
const PAGE_READINGS_MAX: usize = nor::PAGE_BYTES / 24;

impl Life {
    /// One start: takes readings and delivers some, as chance will have it, until the power goes.
    fn live(&mut self, nor: &Nor, fill: Fill, random: &mut Random) {
        self.settle(nor);
        nor.0.borrow_mut().power = Some(1 + random.below(400) as usize);
        let Ok(mut outbox) = small(nor) else { return };
        while has_power(nor) {
            let takes = match fill {
                Fill::Little => self.kept.len() < 100 && random.below(7) < 4,
                Fill::Full => random.below(10) < 9,
            };
            if takes {
                self.push(&mut outbox, nor, fill);
            } else {
                self.deliver(&mut outbox, nor, random);
            }
        }
    }

    fn push(&mut self, outbox: &mut Small, nor: &Nor, fill: Fill) {
        let seq = outbox.seq(Channel::Sensor);
        let reading = Reading::taken(seq, START_US + i64::from(seq));
        let dropped = now(outbox.push(Channel::Sensor, &moment(seq.into()), &reading.fields));
        if has_power(nor) {
            assert!(dropped == 0 || fill == Fill::Full, "there is room");
            self.kept.drain(..dropped as usize);
            self.kept.push_back(reading);
            self.taken += 1;
            self.dropped += dropped;
            self.counted += dropped;
            assert_eq!(outbox.dropped(), self.counted);
        } else {
            self.in_doubt = Some(reading);
            self.leaving = if fill == Fill::Full { PAGE_READINGS_MAX } else { 0 };
        }
    }

    fn deliver(&mut self, outbox: &mut Small, nor: &Nor, random: &mut Random) {
        let (count, payload) = gather(outbox, Channel::Sensor, 0, 1 + random.below(4) as usize);
        let expected: Vec<u8> = self.kept.iter().take(count).flat_map(Reading::frame).collect();
        // Without power nothing can be read, but what is in RAM is right.
        assert_eq!(payload, expected, "the oldest leave first, in order");
        now(outbox.delivered(0));
        if has_power(nor) {
            self.kept.drain(..count);
        } else {
            self.leaving = count;
        }
    }

    /// After a loss of power: what was there is there, but for what was on its way in or out.
    fn settle(&mut self, nor: &Nor) {
        let mut copy = small(&copy(nor)).expect("flash that has power can be opened");
        let there = drain(&mut copy, Channel::Sensor);
        let (leaving, in_doubt) = (std::mem::take(&mut self.leaving), self.in_doubt.take());
        let (sure, was_taking) = (self.kept.len(), in_doubt.is_some());
        self.kept.extend(in_doubt);
        let is_gone = |reading: &Reading| there.front() != Some(&reading.frame());
        let gone = self.kept.iter().take(leaving).take_while(|reading| is_gone(reading)).count();
        self.kept.drain(..gone);
        if was_taking {
            self.dropped += gone as u32;
        }
        // What was dropped as the power went may be missing in the count, and no other.
        assert!((self.counted..=self.counted + gone as u32).contains(&copy.dropped()), "{}", copy.dropped());
        self.counted = copy.dropped();
        assert!(there.len() >= sure - gone, "{} of {sure} are there, {gone} were leaving", there.len());
        self.kept.truncate(there.len());
        assert_eq!(there, self.kept.iter().map(Reading::frame).collect::<Vec<_>>());
        // A number is used again only if its reading was not kept.
        self.taken += u32::from(self.kept.len() + gone > sure);
        assert_eq!(copy.seq(Channel::Sensor), self.taken);
    }
}

/// A life of a flash of so many pages, with as many cuts as it is told.
fn live_with_cuts(fill: Fill, pages: usize) -> Life {
    let cuts = std::env::var("ZEUGMA_CUTS").map_or(500, |cuts| cuts.parse().expect("a number of cuts"));
    let mut random = Random::seeded(11);
    let (nor, mut life) = (Nor::new(pages), Life::default());
    for _ in 0..cuts {
        life.live(&nor, fill, &mut random);
        nor.0.borrow_mut().power = None;
    }
    life.settle(&nor);
    assert!(life.taken > cuts, "{} readings", life.taken);
    life
}

#[test]
fn power_that_goes_at_any_word_loses_nothing_that_was_kept_and_brings_nothing_back() {
    assert_eq!(live_with_cuts(Fill::Little, 12).dropped, 0);
}

#[test]
fn power_that_goes_at_any_word_of_a_full_flash_loses_the_oldest_only() {
    let life = live_with_cuts(Fill::Full, 6);
    assert!(life.dropped > life.taken / 4, "{} of {} were dropped", life.dropped, life.taken);
    println!("{} readings, {} dropped, {} of them counted", life.taken, life.dropped, life.counted);
}
