//! Places: how many questions run at once, of all and of each tenant.
//!
//! Most questions are short, and whoever draws a page waits for them. A long one, by the rows that it reads, needs
//! a second place of which there are few, so that a tenant's reports neither keep its own pages waiting nor those
//! of others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{Config, Error, Grant};

/// Who has no place longer than a question lasts is forgotten once so many are known.
const TENANTS_KEPT: usize = 1_024;

/// The places of a reader.
#[derive(Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    all_long: Arc<Semaphore>,
    tenants: Mutex<HashMap<Grant, Weak<Share>>>,
    running_per_tenant_max: usize,
    long_per_tenant_max: usize,
    wait_max: Duration,
}

/// What one tenant may have of them.
#[derive(Debug)]
struct Share {
    all: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    share: Option<Arc<Share>>,
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Places {
    /// All places are free.
    pub fn new(config: &Config) -> Places {
        Places {
            all: Arc::new(Semaphore::new(config.running_max)),
            all_long: Arc::new(Semaphore::new(config.long_max)),
            tenants: Mutex::default(),
            running_per_tenant_max: config.running_per_tenant_max,
            long_per_tenant_max: config.long_per_tenant_max,
            wait_max: config.wait_max,
        }
    }

    /// A place for a question of somebody with this grant; the operator has no share of its own.
    ///
    /// # Errors
    /// [`Error::Busy`] where none becomes free in time.
    pub async fn take(&self, grant: &Grant) -> Result<Place, Error> {
        let share = self.share(grant);
        let own = share.as_ref().map(|share| &share.all);
        let permits = self.permits(own, &self.all, "questions are being answered; ask again").await?;
        Ok(Place { share, _permits: permits })
    }

    /// A second place, for a question that turns out to be long.
    ///
    /// # Errors
    /// [`Error::Busy`] where none becomes free in time.
    pub async fn take_long(&self, first: &Place) -> Result<Place, Error> {
        let own = first.share.as_ref().map(|share| &share.long);
        let busy = "long questions are being answered; ask again, or ask for a shorter time";
        let permits = self.permits(own, &self.all_long, busy).await?;
        Ok(Place { share: first.share.clone(), _permits: permits })
    }

    /// One's own first: who waits for that takes nobody else's.
    async fn permits(
        &self,
        own: Option<&Arc<Semaphore>>,
        of_all: &Arc<Semaphore>,
        busy: &str,
    ) -> Result<Vec<OwnedSemaphorePermit>, Error> {
        let take = async {
            let mut permits = Vec::with_capacity(2);
            for semaphore in own.into_iter().chain([of_all]) {
                let permit = semaphore.clone().acquire_owned().await;
                permits.push(permit.map_err(|_| Error::Internal("the reader is closed".into()))?);
            }
            Ok(permits)
        };
        timeout(self.wait_max, take).await.unwrap_or_else(|_| Err(Error::Busy(format!("too many {busy}"))))
    }

    fn share(&self, grant: &Grant) -> Option<Arc<Share>> {
        if *grant == Grant::All {
            return None;
        }
        let mut tenants = self.tenants.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(share) = tenants.get(grant).and_then(Weak::upgrade) {
            return Some(share);
        }
        if tenants.len() >= TENANTS_KEPT {
            tenants.retain(|_, share| share.strong_count() > 0);
        }
        let share = Arc::new(Share {
            all: Arc::new(Semaphore::new(self.running_per_tenant_max)),
            long: Arc::new(Semaphore::new(self.long_per_tenant_max)),
        });
        tenants.insert(grant.clone(), Arc::downgrade(&share));
        Some(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        let config = Config {
            running_max: 3,
            running_per_tenant_max: 2,
            long_max: 2,
            long_per_tenant_max: 1,
            wait_max: Duration::from_millis(20),
            ..Config::default()
        };
        Places::new(&config)
    }

    #[tokio::test(start_paused = true)]
    async fn tenant_that_asks_much_leaves_places_to_others() {
        let (places, greedy, other) = (places(), Grant::tenants(["a"]), Grant::tenants(["b"]));
        let held = [places.take(&greedy).await.unwrap(), places.take(&greedy).await.unwrap()];
        let refused = places.take(&greedy).await.unwrap_err();
        assert!(matches!(refused, Error::Busy(_)), "{refused}");
        let third = places.take(&other).await.unwrap();
        assert!(matches!(places.take(&Grant::All).await, Err(Error::Busy(_))), "three are all there are");
        drop((held, third));
        places.take(&greedy).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn long_questions_have_places_of_their_own() {
        let (places, a, b) = (places(), Grant::tenants(["a"]), Grant::tenants(["b"]));
        let (first, second) = (places.take(&a).await.unwrap(), places.take(&a).await.unwrap());
        let long = places.take_long(&first).await.unwrap();
        assert!(matches!(places.take_long(&second).await, Err(Error::Busy(_))), "one of a tenant");
        let other = places.take(&b).await.unwrap();
        places.take_long(&other).await.unwrap();
        drop(long);
        places.take_long(&second).await.unwrap();
    }
}
