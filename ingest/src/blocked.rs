//! Who is blocked: of these devices and tenants nothing is taken, as they were erased and are not wanted again.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use zeugma_lake::gone::Subject;
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
