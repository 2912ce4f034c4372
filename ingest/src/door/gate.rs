//! The gate: before each packet of a connection is read, it asks whether there is room for more.
//!
//! It asks the session, which knows every limit (see [`limits`](super::limits)). It stands in place of the library's own limit of payloads in flight, which lets every PUBLISH pass that
//! follows another. The service behind it gets a pipeline of its own: with a shared one, packets that were
//! read before the gate closed would wait with the reader, and might be overtaken when it opens.

use std::{future::poll_fn, rc::Rc, task::Context};

use ntex::{Middleware, Pipeline, Service, ServiceCtx, SharedCfg};

use super::session::Session;

/// Puts a gate before each connection's service.
pub(super) struct Gates;

impl<S, K> Middleware<S, (SharedCfg, ntex_mqtt::Session<K, Rc<Session>>)> for Gates {
    type Service = Gate<S>;

    fn create(&self, service: S, (_, session): (SharedCfg, ntex_mqtt::Session<K, Rc<Session>>)) -> Gate<S> {
        Gate { behind: Pipeline::new(service), session: Rc::clone(&session) }
    }
}

/// The gate of one connection.
pub(super) struct Gate<S> {
    behind: Pipeline<S>,
    session: Rc<Session>,
}

impl<S, R> Service<R> for Gate<S>
where
    S: Service<R> + 'static,
    R: 'static,
{
    type Response = S::Response;
    type Error = S::Error;

    async fn ready(&self, _: ServiceCtx<'_, Self>) -> Result<(), S::Error> {
        poll_fn(|context| self.session.poll_open(context)).await;
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
