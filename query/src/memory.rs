//! Memory of one question, of that of all: no question takes what the others need.
//!
//! Within its own limit the parts of a plan that can go to the disk have equal shares, as the engine has it.

use std::{fmt, sync::Arc};

use datafusion::{
    common::Result,
    execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation},
};

/// What one question may hold.
#[derive(Debug)]
pub struct OfOne {
    own: FairSpillPool,
    all: Arc<dyn MemoryPool>,
}

impl OfOne {
    /// So many bytes, as far as all questions together leave them.
    pub fn new(bytes_max: usize, all: Arc<dyn MemoryPool>) -> OfOne {
        OfOne { own: FairSpillPool::new(bytes_max), all }
    }
}

impl fmt::Display for OfOne {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of one question: {}, of all: {}", self.own, self.all)
    }
}

impl MemoryPool for OfOne {
    fn name(&self) -> &str {
        "of_one"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
        self.all.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
        self.all.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.own.try_grow(reservation, additional)?;
        self.all.try_grow(reservation, additional).inspect_err(|_| self.own.shrink(reservation, additional))
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.own.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[test]
    fn question_has_its_own_limit_and_what_others_leave() {
        let all: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let questions = [0, 1, 2].map(|_| Arc::new(OfOne::new(40, all.clone())) as Arc<dyn MemoryPool>);
        let [first, second, third] =
            questions.each_ref().map(|question| MemoryConsumer::new("join").register(question));
        first.try_grow(40).unwrap();
        assert!(first.try_grow(1).is_err(), "its own limit");
        second.try_grow(40).unwrap();
        assert!(third.try_grow(21).is_err(), "two others hold 80 of 100");
        third.try_grow(20).unwrap();
        assert_eq!(all.reserved(), 100);
        drop(first);
        third.try_grow(20).unwrap();
        assert_eq!((all.reserved(), questions[0].reserved(), questions[2].reserved()), (80, 0, 40));
    }
}
