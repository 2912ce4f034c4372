//! The firmware's time driver on a host: one thread and one heap, for thousands of tasks.
//!
//! The ready-made queues hold a fixed, small number of tasks. As there, each task has one timer, the earliest
//! it asked for: woken, it asks again for all it needs.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::{Condvar, Mutex, Once, OnceLock, PoisonError},
    task::Waker,
    thread,
    time::{Duration, Instant},
};

use embassy_time_driver::Driver;

/// A task, by the addresses its waker stands for; the waker that is kept beside it keeps them from being reused.
type Task = (usize, usize);

/// What is to be woken, and when.
struct Timers {
    by_task: BTreeMap<Task, (u64, Waker)>,
    /// May hold moments that were replaced by earlier ones.
    by_time: BinaryHeap<Reverse<(u64, Task)>>,
}

impl Timers {
    const fn new() -> Timers {
        Timers { by_task: BTreeMap::new(), by_time: BinaryHeap::new() }
    }

    /// Adds a timer; answers whether it is now the first of all.
    fn add(&mut self, at: u64, waker: &Waker) -> bool {
        let task = (waker.data().addr(), std::ptr::from_ref(waker.vtable()).addr());
        if self.by_task.get(&task).is_some_and(|known| known.0 <= at) {
            return false;
        }
        self.by_task.insert(task, (at, waker.clone()));
        self.by_time.push(Reverse((at, task)));
        self.by_time.peek().is_some_and(|first| first.0.0 == at)
    }

    /// Takes what is due at `now`; answers it and when the next is.
    fn due(&mut self, now: u64) -> (Vec<Waker>, Option<u64>) {
        let mut due = Vec::new();
        while let Some(&Reverse((at, task))) = self.by_time.peek() {
            if at > now {
                return (due, Some(at));
            }
            self.by_time.pop();
            if self.by_task.get(&task).is_some_and(|known| known.0 == at)
                && let Some((_, waker)) = self.by_task.remove(&task)
            {
                due.push(waker);
            }
        }
        (due, None)
    }
}

struct HostTime {
    start: OnceLock<Instant>,
    timers: Mutex<Timers>,
    earlier: Condvar,
    thread: Once,
}

impl HostTime {
    const fn new() -> HostTime {
        HostTime {
            start: OnceLock::new(),
            timers: Mutex::new(Timers::new()),
            earlier: Condvar::new(),
            thread: Once::new(),
        }
    }

    /// Wakes what is due, for ever.
    fn serve(&self) {
        let mut timers = self.timers.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (due, next) = timers.due(self.now());
            if !due.is_empty() {
                // Wakers take locks of their own.
                drop(timers);
                due.into_iter().for_each(Waker::wake);
                timers = self.timers.lock().unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let wait = next.map_or(Duration::MAX, |at| Duration::from_micros(at.saturating_sub(self.now())));
            let woken = self.earlier.wait_timeout(timers, wait);
            timers = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Driver for HostTime {
    fn now(&self) -> u64 {
        self.start.get_or_init(Instant::now).elapsed().as_micros() as u64
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        self.thread.call_once(|| {
            let spawned = thread::Builder::new().name("device timers".into()).spawn(|| DRIVER.serve());
            spawned.expect("a process that runs devices can start one thread");
        });
        if at <= self.now() {
            waker.wake_by_ref();
            return;
        }
        if self.timers.lock().unwrap_or_else(PoisonError::into_inner).add(at, waker) {
            self.earlier.notify_one();
        }
    }
}

// One tick is one microsecond: the rate that `embassy-time` has unless a feature asks for another.
const _: () = assert!(embassy_time_driver::TICK_HZ == 1_000_000);

embassy_time_driver::time_driver_impl!(static DRIVER: HostTime = HostTime::new());

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn task_is_woken_once_at_the_earliest_time_it_asked_for() {
        let mut timers = Timers::new();
        let counts = [Arc::new(Count::default()), Arc::new(Count::default())];
        let wakers = counts.clone().map(Waker::from);
        assert!(timers.add(50, &wakers[0]));
        assert!(timers.add(20, &wakers[0]));
        assert!(!timers.add(70, &wakers[0]));
        assert!(!timers.add(30, &wakers[1]));
        let (due, next) = timers.due(20);
        assert_eq!((due.len(), next), (1, Some(30)));
        due.into_iter().for_each(Waker::wake);
        let (due, next) = timers.due(100);
        assert_eq!((due.len(), next), (1, None));
        due.into_iter().for_each(Waker::wake);
        assert_eq!(counts.map(|count| count.0.load(Relaxed)), [1, 1]);
    }

    #[tokio::test]
    async fn thousands_of_tasks_wake_when_they_asked() {
        let start = embassy_time::Instant::now();
        let tasks: Vec<_> =
            (0..5_000u64).map(|i| tokio::spawn(embassy_time::Timer::after_millis(10 + i % 50))).collect();
        for task in tasks {
            task.await.expect("timers do not panic");
        }
        assert!((59..2_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }
}
