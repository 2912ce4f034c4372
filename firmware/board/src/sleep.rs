//! A few tasks, and a processor that sleeps while they wait: `wfi` until an interrupt wakes one.

use core::{
    pin::Pin,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, RawWaker, RawWakerVTable, Waker},
};

/// The device, the network and the time.
const TASKS: usize = 3;

/// Whether something happened since a task was last looked at.
static WOKEN: [AtomicBool; TASKS] = [const { AtomicBool::new(true) }; TASKS];

/// Has all tasks looked at again; interrupts do not know who waits for them.
pub fn wake_all() {
    WOKEN.iter().for_each(|woken| woken.store(true, Ordering::Release));
}

/// A task with a waker of its own: the network's waker is called whenever a socket is looked at, so if the
/// device shared it, the two would keep each other awake.
pub struct Apart<'t, T> {
    number: usize,
    task: Pin<&'t mut T>,
}

impl<'t, T> Apart<'t, T> {
    /// The task with this number, which no other has.
    pub fn new(number: usize, task: Pin<&'t mut T>) -> Apart<'t, T> {
        Apart { number, task }
    }
}

impl<T: Future> Future for Apart<'_, T> {
    type Output = T::Output;

    fn poll(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<T::Output> {
        if !WOKEN[self.number].swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        let waker = waker(self.number);
        self.task.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

/// Runs `tasks`, which stand [apart](Apart), to their end. They are given in their place, as they are too large to
/// be moved about.
pub fn block_on<T>(mut tasks: Pin<&mut impl Future<Output = T>>) -> T {
    loop {
        if let Poll::Ready(output) = tasks.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        // Without interrupts between the look and the sleep none is slept through: a pending one ends `wfi` too.
        cortex_m::interrupt::free(|_| {
            if !WOKEN.iter().any(|woken| woken.load(Ordering::Acquire)) {
                cortex_m::asm::wfi();
            }
        });
    }
}

/// One table, so that equal wakers are known to be equal. Their data is the task's number.
static TABLE: RawWakerVTable = RawWakerVTable::new(|data| RawWaker::new(data, &TABLE), wake, wake, |_| {});

fn wake(data: *const ()) {
    WOKEN[data.addr()].store(true, Ordering::Release);
}

fn waker(number: usize) -> Waker {
    // SAFETY: the table's functions take the data for a number, which it is, and hold for any thread and for ever.
    unsafe { Waker::from_raw(RawWaker::new(ptr::without_provenance(number), &TABLE)) }
}
