//! The order of one connection's publishes: a payload that comes in pieces keeps back the whole ones behind it.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

/// The order of one connection.
#[derive(Default)]
pub(super) struct Order {
    /// The number that the next publish gets, and the one whose turn it is.
    next: Cell<u64>,
    serving: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Order {
    /// Whether nothing that has come is not submitted yet.
    pub fn is_free(&self) -> bool {
        self.serving.get() >= self.next.get()
    }

    /// A place in the order of arrival; to be taken before anything is waited for.
    pub fn place(self: &Rc<Order>) -> Place {
        let number = self.next.get();
        self.next.set(number + 1);
        Place { order: self.clone(), number }
    }
}

/// A publish's place, held until it is dropped.
pub(super) struct Place {
    order: Rc<Order>,
    number: u64,
}

impl Place {
    /// Waits until all before it have been submitted.
    pub async fn reached(&self) {
        poll_fn(|context| {
            if self.order.serving.get() >= self.number {
                return Poll::Ready(());
            }
            self.order.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.order.serving.set(self.order.serving.get().max(self.number + 1));
        self.order.waiting.take().into_iter().for_each(Waker::wake);
    }
}
