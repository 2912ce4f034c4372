//! Waiting for whichever comes first: work, a moment, or the word to stop.

use core::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use embassy_time::{Instant, Timer};

/// What came first.
pub(crate) enum First<T> {
    Work(T),
    Time,
    Stop,
}

/// The word to stop, which comes once.
pub(crate) struct Stop<'f, F> {
    word: Option<Pin<&'f mut F>>,
}

impl<'f, F: Future<Output = ()>> Stop<'f, F> {
    pub(crate) fn new(word: Pin<&'f mut F>) -> Self {
        Stop { word: Some(word) }
    }

    /// Whether the word came just now; it is not looked at again.
    fn came(&mut self, cx: &mut Context<'_>) -> bool {
        let came = self.word.as_mut().is_some_and(|word| word.as_mut().poll(cx).is_ready());
        if came {
            self.word = None;
        }
        came
    }
}

/// Waits for `work`, for `at` (never, if `None`), or for `stop`; unfinished work may be waited for again.
pub(crate) async fn first<W: Future, F: Future<Output = ()>>(
    mut work: Pin<&mut W>,
    at: Option<Instant>,
    stop: &mut Stop<'_, F>,
) -> First<W::Output> {
    let mut timer = pin!(at.map(Timer::at));
    poll_fn(|cx| {
        if stop.came(cx) {
            return Poll::Ready(First::Stop);
        }
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(First::Work(output));
        }
        match timer.as_mut().as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| First::Time),
            None => Poll::Pending,
        }
    })
    .await
}
