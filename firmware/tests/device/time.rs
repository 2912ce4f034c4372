//! Virtual time: when nothing can go on, the clock jumps to the next timer. Each test thread has its own.

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use embassy_time_driver::Driver;

thread_local! {
    static NOW_US: Cell<u64> = const { Cell::new(0) };
    static TIMERS: RefCell<Vec<(u64, Waker)>> = const { RefCell::new(Vec::new()) };
}

struct Virtual;

impl Driver for Virtual {
    fn now(&self) -> u64 {
        NOW_US.get()
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        // One timer for each task: it sets all it needs again whenever it is woken.
        TIMERS.with_borrow_mut(|timers| match timers.iter_mut().find(|timer| timer.1.will_wake(waker)) {
            Some(timer) => timer.0 = timer.0.min(at),
            None => timers.push((at, waker.clone())),
        });
    }
}

embassy_time_driver::time_driver_impl!(static DRIVER: Virtual = Virtual);

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `future` to its end, however long that takes in virtual time.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    let mut future = pin!(future);
    loop {
        while flag.0.swap(false, Ordering::Relaxed) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
        }
        TIMERS.with_borrow_mut(|timers| {
            let next = timers.iter().map(|timer| timer.0).min().expect("nothing can ever wake the device");
            NOW_US.set(NOW_US.get().max(next));
            for (_, waker) in timers.extract_if(.., |timer| timer.0 <= NOW_US.get()) {
                waker.wake();
            }
        });
    }
}
