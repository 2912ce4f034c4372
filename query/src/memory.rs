//! Memory of one question, of that of all: no question takes what the others need.
//!
//! All parts of plans that can go to the disk have equal shares of the whole, as the engine has it. What cannot, as the
//! rows that a join keeps, is taken from them, so one question may have little of that.

use std::{fmt, sync::Arc};

use datafusion::{
    common::Result,
    execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation},
};

/// What one question may hold.
#[derive(Debug)]
pub struct OfOne {
    own: GreedyMemoryPool,
    /// Of it, what cannot go to the disk.
    stays: GreedyMemoryPool,
    all: Arc<dyn MemoryPool>,
}

impl OfOne {
    /// So many bytes, of which so many may be what cannot go to the disk, as far as all questions together leave them.
    pub fn new(bytes_max: usize, stays_bytes_max: usize, all: Arc<dyn MemoryPool>) -> OfOne {
        OfOne {
            own: GreedyMemoryPool::new(bytes_max),
            stays: GreedyMemoryPool::new(stays_bytes_max.min(bytes_max)),
            all,
        }
    }

    /// Those that count a reservation, each of which may refuse.
    fn pools(&self, reservation: &MemoryReservation) -> impl Iterator<Item = &dyn MemoryPool> {
        let stays = (!reservation.consumer().can_spill()).then_some(&self.stays as &dyn MemoryPool);
        [&self.own as &dyn MemoryPool].into_iter().chain(stays).chain([&*self.all])
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
        self.all.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.all.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pools(reservation).for_each(|pool| pool.grow(reservation, additional));
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pools(reservation).for_each(|pool| pool.shrink(reservation, shrink));
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        for (at, pool) in self.pools(reservation).enumerate() {
            if let Err(error) = pool.try_grow(reservation, additional) {
                self.pools(reservation).take(at).for_each(|pool| pool.shrink(reservation, additional));
                return Err(error);
            }
        }
        Ok(())
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
    use datafusion::execution::memory_pool::FairSpillPool;

    use super::*;

    #[test]
    fn question_has_its_own_limits_and_what_others_leave() {
        let all: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(100));
        let questions = [0, 1, 2].map(|_| Arc::new(OfOne::new(50, 40, all.clone())) as Arc<dyn MemoryPool>);
        let joins = questions.each_ref().map(|question| MemoryConsumer::new("join").register(question));
        let [first, second, third] = joins;
        first.try_grow(40).unwrap();
        assert!(first.try_grow(1).is_err(), "its own limit of what stays");
        let sort = MemoryConsumer::new("sort").with_can_spill(true).register(&questions[0]);
        sort.try_grow(10).unwrap();
        assert!(sort.try_grow(1).is_err(), "its own limit");
        second.try_grow(40).unwrap();
        assert!(third.try_grow(11).is_err(), "two others hold 90 of 100");
        third.try_grow(10).unwrap();
        assert_eq!(all.reserved(), 100);
        drop((first, sort));
        third.try_grow(30).unwrap();
        assert_eq!((all.reserved(), questions[0].reserved(), questions[2].reserved()), (80, 0, 40));
    }
}
