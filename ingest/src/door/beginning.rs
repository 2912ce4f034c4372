//! How the workers of a door begin: the first connection is taken when all of them are known to whoever deals them out.
//!
//! A connection stays where it is, and after a restart all devices of a city connect at once, on a machine that has
//! other things to do as well. A worker that is known a moment later than the others would be left with nothing to do.

use ntex::rt::spawn;
use ntex_server::Server;
use tokio::{sync::watch, task::yield_now};

/// What the workers, and whoever waits for them, have of it.
#[derive(Debug, Clone)]
pub(super) struct Beginning {
    /// How many workers have a thread.
    started: watch::Sender<usize>,
    /// Turns true when they may become ready: the library looks at each once after it has started its thread, and
    /// would count one twice that is ready by then.
    may_go_on: watch::Sender<bool>,
    /// How many have told the library that they are ready.
    ready: watch::Sender<usize>,
}

impl Beginning {
    /// Nobody has begun.
    pub fn new() -> Beginning {
        Beginning {
            started: watch::Sender::new(0),
            may_go_on: watch::Sender::new(false),
            ready: watch::Sender::new(0),
        }
    }

    /// Called by each worker on its thread, as the last thing that it waits for before it is ready.
    pub async fn of_worker(&self) {
        self.started.send_modify(|started| *started += 1);
        // No wait in this file fails, as the senders are here. A worker that begins anew finds the door open.
        drop(self.may_go_on.subscribe().wait_for(|may| *may).await);
        let ready = self.ready.clone();
        // It has its turn when this one ends, and that is when the worker waits for its first connection.
        spawn(async move { ready.send_modify(|ready| *ready += 1) });
    }

    /// Called on the library's thread, which learns of workers beside it: waits until it knows so many.
    pub async fn wait<T>(&self, workers: usize, pool: &Server<T>) {
        drop(self.started.subscribe().wait_for(|started| *started >= workers).await);
        self.may_go_on.send_replace(true);
        drop(self.ready.subscribe().wait_for(|ready| *ready >= workers).await);
        // Here it reads what the last of them has told, and passes it on.
        yield_now().await;
        // What was passed on before these is known when they are answered.
        pool.pause().await;
        pool.resume().await;
    }
}
