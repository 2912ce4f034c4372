//! Whose dead letters must not be replayed, as they are being erased: what was read of them before would come back.

use std::sync::{Arc, PoisonError, RwLock};

use zeugma_lake::{
    erasure::{Cut, Erasure},
    gone::Subject,
};
use zeugma_schemas::dead_letter::DeadLetter;

/// What is being erased; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Erased {
    all: Arc<RwLock<Vec<Being>>>,
}

#[derive(Debug)]
struct Being {
    id: String,
    subject: Subject,
    /// None while it is being fixed.
    cut: Option<Cut>,
}

impl Erased {
    /// What was being erased when the lake was opened.
    pub fn of(open: &[Erasure]) -> Erased {
        let erased = Erased::default();
        open.iter().for_each(|erasure| erased.since(erasure));
        erased
    }

    /// From here on no letter of the subject is replayed.
    pub fn begin(&self, erasure: &Erasure) {
        self.replace(erasure, None);
    }

    /// From here on no letter is that came by the cut.
    pub fn since(&self, erasure: &Erasure) {
        self.replace(erasure, Some(erasure.cut.clone()));
    }

    /// Nobody can have read anything of it any more that is gone.
    pub fn end(&self, erasure: &Erasure) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|being| being.id != erasure.id);
    }

    fn replace(&self, erasure: &Erasure, cut: Option<Cut>) {
        let being = Being { id: erasure.id.clone(), subject: erasure.subject.clone(), cut };
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|being| being.id != erasure.id);
        all.push(being);
    }

    /// Does something with those letters that may be replayed, before any of them can begin to be erased; answers how
    /// many may not.
    pub fn spare(&self, letters: Vec<DeadLetter>, replay: impl FnOnce(Vec<DeadLetter>)) -> usize {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let (erased, spared): (Vec<_>, Vec<_>) =
            letters.into_iter().partition(|letter| all.iter().any(|being| being.has(letter)));
        replay(spared);
        erased.len()
    }
}

impl Being {
    fn has(&self, letter: &DeadLetter) -> bool {
        let came_before = |cut: &Cut| letter.source != cut.source || letter.position <= cut.position as i64;
        self.subject.has_letter(letter.tenant.as_deref(), &letter.topic)
            && self.cut.as_ref().is_none_or(came_before)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use zeugma_lake::{Lake, upkeep::KEEP_DEFAULT};
    use zeugma_schemas::dead_letter::Reason;

    use super::*;
    use crate::{Config, Ingest, door::limits::Limits};

    fn letter(topic: &str, position: i64) -> DeadLetter {
        DeadLetter {
            tenant: Some("lamia".into()),
            topic: topic.into(),
            received_at_us: 0,
            reason: Reason::Content,
            detail: String::new(),
            payload: Vec::new(),
            payload_bytes: 0,
            source: "s".into(),
            position,
            index: 0,
        }
    }

    #[test]
    fn letters_of_before_the_cut_are_not_replayed_until_nobody_can_have_read_them() {
        let erased = Erased::default();
        let replayed = |letters: &[DeadLetter]| {
            let mut spared = Vec::new();
            let refused = erased.spare(letters.to_vec(), |letters| spared = letters);
            (refused, spared.iter().map(|letter| letter.position).collect::<Vec<_>>())
        };
        let bus = "city/v1/lamia/fleet/bus-1";
        let letters = [letter(bus, 1), letter(bus, 9), letter("city/v1/lamia/fleet/bus-2", 2)];
        let subject = Subject { tenant: "lamia".into(), device: Some("bus-1".into()) };
        let cut = Cut { source: "s".into(), position: 5 };
        let erasure = Erasure::new(subject, false, cut, 0, 0);
        assert_eq!(replayed(&letters), (0, vec![1, 9, 2]));
        erased.begin(&erasure);
        assert_eq!(replayed(&letters), (2, vec![2]));
        erased.since(&erasure);
        assert_eq!(replayed(&letters), (1, vec![9, 2]));
        erased.end(&erasure);
        assert_eq!(replayed(&letters), (0, vec![1, 9, 2]));
    }

    // In one thread, so nothing that begins beside it has run when the start answers.
    #[tokio::test]
    async fn letters_of_an_open_erasure_are_not_replayed_from_the_start_on() {
        let (folder, lake) = (tempfile::tempdir().unwrap(), Lake::open("memory:///").await.unwrap());
        let subject = Subject { tenant: "lamia".into(), device: Some("bus-1".into()) };
        let cut = Cut { source: "s".into(), position: 5 };
        lake.keep_erasure(&Erasure::new(subject, false, cut, 0, 0)).await.unwrap();
        let config = Config {
            data: folder.path().to_owned(),
            schemas: None,
            broker: None,
            commit_interval: Duration::from_secs(3_600),
            keep_versions: KEEP_DEFAULT,
            trust_clock: true,
            limits: Limits::default(),
        };
        let ingest = Ingest::start(config, lake, None, Arc::new(|| 1_790_000_000_000_000)).await.unwrap();
        let letters = vec![letter("city/v1/lamia/fleet/bus-1", 1)];
        let replayed = ingest.dead_letters().replay(letters).await.unwrap();
        assert_eq!(replayed.rejected, BTreeMap::from([("erased", 1)]));
        ingest.stop().await.unwrap();
    }
}
