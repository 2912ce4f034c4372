//! Progress: whether journal and acceptance get on with what lies before them.
//!
//! There is no clock here. Whoever asks looks twice, some time apart: a step that had work at both looks
//! and finished nothing between them is stuck. A step that waits for something outside - room on the disk,
//! room in the tail while the lake is away - is not: starting the process again would not help it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The steps that must go on for a reading to be acknowledged and seen.
#[derive(Debug, Default)]
pub struct Progress {
    /// Blocks on their way to the disk.
    pub journal: Step,
    /// Records of synced blocks on their way to the tail, by their positions.
    pub acceptance: Step,
}

/// One step: what was begun, and what is done; one by one, or through a number that grows.
#[derive(Debug, Default)]
pub struct Step {
    begun: AtomicU64,
    done: AtomicU64,
    waits: AtomicBool,
}

/// What was seen of both steps at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    journal: Seen,
    acceptance: Seen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    pending: bool,
    done: u64,
    waits: bool,
}

impl Step {
    /// There is one thing more to do.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// One thing is done.
    pub fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// There is more to do, through this number.
    pub fn begin_through(&self, number: u64) {
        self.begun.store(number, Ordering::Relaxed);
    }

    /// Everything through this number is done.
    pub fn done_through(&self, number: u64) {
        self.done.store(number, Ordering::Relaxed);
    }

    /// Whether it waits for something outside.
    pub fn waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    fn look(&self) -> Seen {
        // What is done was begun before, so in this order nothing done looks pending.
        let done = self.done.load(Ordering::Acquire);
        let pending = self.begun.load(Ordering::Acquire) > done;
        Seen { pending, done, waits: self.waits.load(Ordering::Relaxed) }
    }
}

impl Seen {
    fn stuck_since(self, before: Seen) -> bool {
        self.pending && before.pending && self.done == before.done && !self.waits
    }
}

impl Progress {
    /// How far things are.
    pub fn look(&self) -> Look {
        Look { journal: self.journal.look(), acceptance: self.acceptance.look() }
    }
}

impl Look {
    /// Which step has been stuck since an earlier look; none where the writer works.
    pub fn stuck_since(&self, before: &Look) -> Option<&'static str> {
        if self.journal.stuck_since(before.journal) {
            return Some("the journal has not finished one sync");
        }
        self.acceptance.stuck_since(before.acceptance).then_some("acceptance has not finished one step")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_busy_steps_work_and_one_that_stands_still_is_stuck() {
        let progress = Progress::default();
        let idle = progress.look();
        assert_eq!(progress.look().stuck_since(&idle), None);
        progress.journal.begin();
        let begun = progress.look();
        assert_eq!(begun.stuck_since(&idle), None, "it has only just begun");
        assert_eq!(progress.look().stuck_since(&begun), Some("the journal has not finished one sync"));
        progress.journal.done();
        progress.journal.begin();
        assert_eq!(progress.look().stuck_since(&begun), None, "one is done, the next has begun");
        progress.journal.done();
        progress.acceptance.begin_through(7);
        let two = progress.look();
        progress.acceptance.done_through(5);
        let one = progress.look();
        assert_eq!(one.stuck_since(&two), None);
        assert_eq!(progress.look().stuck_since(&one), Some("acceptance has not finished one step"));
    }

    #[test]
    fn waiting_for_something_outside_is_not_being_stuck() {
        let progress = Progress::default();
        progress.acceptance.begin_through(1);
        let before = progress.look();
        progress.acceptance.waits(true);
        assert_eq!(progress.look().stuck_since(&before), None);
        progress.acceptance.waits(false);
        assert!(progress.look().stuck_since(&before).is_some());
    }
}
