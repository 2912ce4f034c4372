//! Rows as messages, in the order and at the pace in which they are to be published.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::mpsc::Sender, time::Instant};
use zeugma_schemas::limits::TIME_US_MIN;

use super::{Plan, scan::Scan, window::Message};

/// Messages handed over at once: few enough to be no delay, many enough that the channel does not count.
const BATCH: usize = 256;

/// Batches waiting for the publisher: 8 x 256 messages x about 300 bytes are 600 kB.
pub const BATCHES_MAX: usize = 8;

/// Rows of a paced replay, which are sorted in memory: 5,000,000 x about 300 bytes are 1.5 GB.
pub const PACED_ROWS_MAX: u64 = 5_000_000;

/// Sends all rows in file order, as fast as they are taken.
pub fn feed(plan: &Plan, scan: &Scan, out: &Sender<Vec<Message>>) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    each(plan, scan, |message, _| {
        batch.push(message);
        // A closed channel means that the publisher stopped.
        batch.len() < BATCH
            || out.blocking_send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).is_ok()
    })?;
    if !batch.is_empty() {
        out.blocking_send(batch).ok();
    }
    Ok(())
}

/// Sends each row when its time has come, `speed` times as fast as it happened; see [`order`].
pub async fn feed_paced(due: Vec<(i64, Message)>, speed: f64, out: &Sender<Vec<Message>>) {
    let began = Instant::now();
    // Rows without a credible time stand in front and go at once.
    let first_us =
        due.iter().map(|(due_us, _)| *due_us).find(|due_us| *due_us != i64::MIN).unwrap_or(i64::MIN);
    let mut due = due.into_iter().peekable();
    while let Some((due_us, _)) = due.peek() {
        tokio::time::sleep_until(began + delay(*due_us, first_us, speed)).await;
        let now = began.elapsed();
        let ready = std::iter::from_fn(|| due.next_if(|(due_us, _)| delay(*due_us, first_us, speed) <= now));
        let batch: Vec<Message> = ready.take(BATCH).map(|(_, message)| message).collect();
        if !batch.is_empty() && out.send(batch).await.is_err() {
            return;
        }
    }
}

/// All rows in the order of their times, those of one device in file order: a row that is older than the
/// one before it, or whose time cannot be true (before 2000, after `now_us`, no time), follows it at once.
pub fn order(plan: &Plan, scan: &Scan, now_us: i64) -> anyhow::Result<Vec<(i64, Message)>> {
    let mut due = Vec::new();
    let mut newest: HashMap<Arc<str>, i64> = HashMap::new();
    each(plan, scan, |message, time_us| {
        let credible = time_us.filter(|time_us| (TIME_US_MIN..=now_us).contains(time_us)).unwrap_or(i64::MIN);
        let newest = newest.entry(message.topic.clone()).or_insert(i64::MIN);
        *newest = credible.max(*newest);
        due.push((*newest, message));
        true
    })?;
    due.sort_by_key(|(due_us, _)| *due_us);
    Ok(due)
}

fn delay(due_us: i64, first_us: i64, speed: f64) -> Duration {
    let elapsed_us = due_us.saturating_sub(first_us).max(0);
    Duration::from_secs_f64(elapsed_us as f64 / 1e6 / speed)
}

/// Calls `take` with each row's message and time until it answers false.
fn each(plan: &Plan, scan: &Scan, mut take: impl FnMut(Message, Option<i64>) -> bool) -> anyhow::Result<()> {
    for source in &plan.sources {
        for row in source.rows(&plan.wanted)? {
            let row = row?;
            let topic = scan.topic(plan, &row)?.clone();
            let (payload, time_us) = plan.mapping.reading(&row.cells[0], &row.cells[1..]);
            if !take(Message { topic, payload: payload.into() }, time_us) {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str) -> Message {
        Message { topic: name.into(), payload: name.as_bytes().to_vec().into() }
    }

    #[tokio::test(start_paused = true)]
    async fn rows_come_when_their_time_has_come() {
        let due = vec![
            (i64::MIN, message("undated")),
            (1_000_000_000, message("a")),
            (1_060_000_000, message("b")),
            (1_060_000_000, message("c")),
            (1_180_000_000, message("d")),
        ];
        let (out, mut source) = tokio::sync::mpsc::channel(BATCHES_MAX);
        let began = Instant::now();
        tokio::spawn(async move { feed_paced(due, 60.0, &out).await });
        let mut came = Vec::new();
        while let Some(batch) = source.recv().await {
            let names: Vec<String> = batch.iter().map(|message| message.topic.to_string()).collect();
            came.push((began.elapsed().as_secs(), names.join(" ")));
        }
        let expected = [(0, "undated a"), (1, "b c"), (3, "d")].map(|(at, names)| (at, names.to_owned()));
        assert_eq!(came, expected);
    }
}
