use std::sync::atomic::{AtomicI64, Ordering};

use zeugma_journal::Step;

use super::*;

/// Metrics, and the clock by which they go.
fn metrics() -> (Metrics, Arc<AtomicI64>) {
    let time = Arc::new(AtomicI64::new(1_000_000_000));
    let read = time.clone();
    (Metrics::new(Arc::new(move || read.load(Ordering::Relaxed))), time)
}

fn line(metrics: &Metrics, name: &str) -> Option<f64> {
    let text = metrics.text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map(|value| value.parse().expect("a number"))
}

#[test]
fn reading_is_counted_at_every_step_and_its_lags_go_by_the_clock() {
    let (metrics, time) = metrics();
    let mut tally = Tally::default();
    let later = |us: i64| {
        time.fetch_add(us, Ordering::Relaxed);
    };
    metrics.journal_step(&Step::Begins { records: 3, bytes: 600 });
    later(4_000);
    metrics.journal_step(&Step::Synced);
    metrics.handed_over(3);
    later(250_000);
    for position in 1..=3 {
        let counts = tally.of("fleet", "lamia");
        counts.accepted += 1;
        counts.row(position, 0);
    }
    metrics.accepted_block(3, &mut tally);
    later(2_000_000);
    assert_eq!(line(&metrics, "zeugma_sync_seconds_sum"), Some(0.004));
    assert_eq!(line(&metrics, "zeugma_sync_payloads_sum"), Some(3.0));
    assert_eq!(line(&metrics, "zeugma_sync_bytes_sum"), Some(600.0));
    assert_eq!(line(&metrics, "zeugma_accepted_total{domain=\"fleet\"}"), Some(3.0));
    assert_eq!(line(&metrics, "zeugma_visible_total{domain=\"fleet\"}"), Some(3.0));
    assert_eq!(line(&metrics, "zeugma_visible_lag_seconds_sum"), Some(0.25));
    assert_eq!(line(&metrics, "zeugma_tenant_visible_total{tenant=\"lamia\"}"), Some(3.0));
    assert_eq!(line(&metrics, "zeugma_tenant_visible_lag_seconds{tenant=\"lamia\"}"), Some(0.25));
    assert_eq!(line(&metrics, "zeugma_tenant_uncommitted_seconds{tenant=\"lamia\"}"), Some(2.25));
    let begun_us = time.load(Ordering::Relaxed);
    later(500_000);
    metrics.committed("fleet", 3, 3, begun_us);
    assert_eq!(line(&metrics, "zeugma_committed_total{domain=\"fleet\"}"), Some(3.0));
    assert_eq!(line(&metrics, "zeugma_commit_seconds_sum"), Some(0.5));
    assert_eq!(line(&metrics, "zeugma_tenant_uncommitted_seconds{tenant=\"lamia\"}"), Some(0.0));
}

#[test]
fn what_never_happened_is_shown_as_zero() {
    let metrics = Metrics::default();
    metrics.table("fleet");
    for name in ["zeugma_commit_failures_total{domain=\"fleet\"}", "zeugma_rejected_total{reason=\"clock\"}"]
    {
        assert_eq!(line(&metrics, name), Some(0.0), "{name}");
    }
}

#[test]
fn disk_that_takes_nothing_is_a_trouble_until_it_does() {
    let metrics = Metrics::default();
    metrics.journal_step(&Step::Begins { records: 1, bytes: 1 });
    let before = metrics.progress.look();
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let refused = zeugma_journal::Error::Disk { what: "append to", path: "/j".into(), source: full };
    metrics.journal_step(&Step::Refused(&refused));
    let troubles = metrics.troubles().join(" ");
    assert!(troubles.contains("/j") && troubles.contains("space"), "{troubles}");
    assert_eq!(metrics.progress.look().stuck_since(&before), None, "a restart would not make room");
    metrics.journal_step(&Step::Synced);
    assert_eq!((metrics.troubles(), metrics.disk_refuses.get()), (Vec::new(), 0));
}

#[test]
fn every_help_text_says_more_than_the_name() {
    let metrics = Metrics::default();
    for help in metrics.text().lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, text) = help.split_once(' ').expect("a text");
        assert!(text.split(' ').count() >= 4, "{name}: {text}");
        assert!(name.starts_with("zeugma_") || name.starts_with("process_"), "{name}");
    }
}
