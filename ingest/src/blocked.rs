//! Who is blocked: of these devices and tenants nothing is taken, as they were erased and are not wanted again.
//!
//! The list is in the lake; what the doors look at is in memory.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Mutex;
use zeugma_lake::{Error, Lake, gone::Subject};
use zeugma_schemas::topic::Topic;

/// Who is blocked, as the doors see it; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Blocked {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Whether there is anybody: mostly not, and then it costs next to nothing to ask.
    any: AtomicBool,
    subjects: RwLock<BTreeSet<Subject>>,
}

impl Blocked {
    /// Blocks these, and nobody else.
    pub fn set(&self, subjects: BTreeSet<Subject>) {
        let mut known = self.shared.subjects.write().unwrap_or_else(PoisonError::into_inner);
        self.shared.any.store(!subjects.is_empty(), Ordering::Relaxed);
        *known = subjects;
    }

    /// Whether what is published to a topic must not be taken.
    pub fn has(&self, topic: &str) -> bool {
        self.shared.any.load(Ordering::Relaxed)
            && Topic::parse(topic).is_some_and(|topic| self.has_one(&topic))
    }

    fn has_one(&self, topic: &Topic<'_>) -> bool {
        let known = self.shared.subjects.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().any(|subject| subject.has(topic))
    }
}

/// The list, to be read and changed; clones are the same.
#[derive(Debug, Clone)]
pub struct BlockList {
    lake: Lake,
    /// What the doors look at.
    pub blocked: Blocked,
    /// Two changes at once would lose one.
    changing: Arc<Mutex<()>>,
}

impl BlockList {
    /// The list of a lake, from now on in force.
    pub async fn open(lake: &Lake) -> Result<BlockList, Error> {
        let blocked = Blocked::default();
        blocked.set(lake.blocked().await?);
        Ok(BlockList { lake: lake.clone(), blocked, changing: Arc::default() })
    }

    /// Blocks somebody.
    pub async fn add(&self, subject: Subject) -> Result<(), Error> {
        self.change(|blocked| blocked.insert(subject)).await.map(drop)
    }

    /// Blocks somebody no more; says whether it was.
    pub async fn lift(&self, subject: &Subject) -> Result<bool, Error> {
        self.change(|blocked| blocked.remove(subject)).await
    }

    async fn change<T>(&self, change: impl FnOnce(&mut BTreeSet<Subject>) -> T) -> Result<T, Error> {
        let _alone = self.changing.lock().await;
        let mut subjects = self.lake.blocked().await?;
        let changed = change(&mut subjects);
        self.lake.keep_blocked(&subjects).await?;
        self.blocked.set(subjects);
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_or_tenant_is_blocked_and_nobody_else() {
        let blocked = Blocked::default();
        assert!(!blocked.has("city/v1/lamia/fleet/bus-1"));
        let subject = |tenant: &str, device: Option<&str>| Subject {
            tenant: tenant.into(),
            device: device.map(str::to_owned),
        };
        blocked.set([subject("lamia", Some("bus-1")), subject("argos", None)].into());
        for (topic, is_blocked) in [
            ("city/v1/lamia/fleet/bus-1", true),
            ("city/v1/lamia/energy/bus-1", true),
            ("city/v1/lamia/fleet/bus-10", false),
            ("city/v1/argos/fleet/bus-2", true),
            ("city/v1/ostrava/fleet/bus-1", false),
            ("lamia/bus-1", false),
        ] {
            assert_eq!(blocked.has(topic), is_blocked, "{topic}");
        }
        blocked.set(BTreeSet::new());
        assert!(!blocked.has("city/v1/lamia/fleet/bus-1"));
    }
}
