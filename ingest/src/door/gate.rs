//! The gate: before each packet of a connection is read, it asks whether there is room for more.
//!
//! It asks the session, which knows every limit (see [`limits`](super::limits)). It stands in place of the
//! library's own limit of payloads in flight, which lets every PUBLISH pass that follows another.
//!
//! The library hands on packet after packet of what was read, and lets their handlers run later; only those
//! count what has come. So the gate lets the handlers run now and then, and always before it lets somebody
//! pass a limit to bring the rest of a payload: by then it may be there.
//!
//! The service behind it gets a pipeline of its own: with a shared one, packets that were
//! read before the gate closed would wait with the reader, and might be overtaken when it opens.

use std::{cell::Cell, future::poll_fn, rc::Rc, task::Context};

use ntex::{Middleware, Pipeline, Service, ServiceCtx, SharedCfg};

use super::{
    session::{Pass, Session},
    worker::step_back,
};

/// Packets of one connection that may pass before they are counted.
const UNCOUNTED_MAX: u8 = 16;

/// Puts a gate before each connection's service.
pub(super) struct Gates;

impl<S, K> Middleware<S, (SharedCfg, ntex_mqtt::Session<K, Rc<Session>>)> for Gates {
    type Service = Gate<S>;

    fn create(&self, service: S, (_, session): (SharedCfg, ntex_mqtt::Session<K, Rc<Session>>)) -> Gate<S> {
        Gate { behind: Pipeline::new(service), session: Rc::clone(&session), uncounted: Cell::default() }
    }
}

/// The gate of one connection.
pub(super) struct Gate<S> {
    behind: Pipeline<S>,
    session: Rc<Session>,
    /// How many have passed since the handlers ran.
    uncounted: Cell<u8>,
}

impl<S> Gate<S> {
    /// Lets the handlers of what has passed run. A piece of a payload takes two turns to be gathered: one to
    /// be handed on, one to be taken.
    async fn catch_up(&self) {
        step_back().await;
        step_back().await;
        self.uncounted.set(0);
    }

    async fn open(&self) {
        if self.uncounted.get() >= UNCOUNTED_MAX {
            self.catch_up().await;
        }
        while poll_fn(|context| self.session.poll_open(context)).await == Pass::ForTheRest {
            if self.uncounted.get() == 0 {
                break;
            }
            self.catch_up().await;
        }
        self.uncounted.set(self.uncounted.get() + 1);
    }
}

impl<S, R> Service<R> for Gate<S>
where
    S: Service<R> + 'static,
    R: 'static,
{
    type Response = S::Response;
    type Error = S::Error;

    async fn ready(&self, _: ServiceCtx<'_, Self>) -> Result<(), S::Error> {
        self.open().await;
        Ok(())
    }

    async fn call(&self, request: R, _: ServiceCtx<'_, Self>) -> Result<S::Response, S::Error> {
        self.behind.call_nowait(request).await
    }

    fn poll(&self, context: &mut Context<'_>) -> Result<(), S::Error> {
        self.behind.poll(context)
    }

    async fn shutdown(&self) {
        self.behind.shutdown().await;
    }
}
