use std::sync::Mutex;

use arrow::{
    array::{AsArray, Int64Array},
    datatypes::{DataType, Field, Int64Type, Schema},
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;

use super::*;
use crate::Grant;

/// The threads on which batches were computed.
type Threads = Arc<Mutex<Vec<String>>>;

/// Some batches of one number each; after the last, perhaps a panic.
fn scan(batches: i64, panics: bool) -> (SendableRecordBatchStream, Threads) {
    let columns = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let (threads, schema) = (Threads::default(), columns.clone());
    let seen = threads.clone();
    let rows = stream::iter(0..batches + i64::from(panics)).map(move |n| {
        assert!(n < batches, "a mistake of ours");
        seen.lock().unwrap().push(std::thread::current().name().unwrap_or_default().to_owned());
        Ok(RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(vec![n]))])?)
    });
    (Box::pin(RecordBatchStreamAdapter::new(columns, rows)), threads)
}

async fn effort(config: &Config, places: &Arc<Places>) -> Arc<Effort> {
    let first = places.take(&Grant::All).await.unwrap();
    Arc::new(Effort::new(config, places.clone(), first, Arc::new(LongThreads::start().unwrap())))
}

async fn numbers(effort: &Arc<Effort>, rows: SendableRecordBatchStream) -> Result<Vec<i64>> {
    let batches: Vec<RecordBatch> = effort.clone().spent_on(rows).try_collect().await?;
    Ok(batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>().value(0)).collect())
}

#[tokio::test]
async fn long_scan_goes_on_on_threads_that_give_way_and_loses_nothing() {
    for (long_after, moves) in [(Duration::ZERO, true), (Duration::MAX, false)] {
        let config = Config { long_after, ..Config::default() };
        let (rows, threads) = scan(50, false);
        let effort = effort(&config, &Arc::new(Places::new(&config))).await;
        assert_eq!(numbers(&effort, rows).await.unwrap(), (0..50).collect::<Vec<_>>());
        let threads = threads.lock().unwrap();
        assert!(
            threads.len() == 50 && threads.iter().all(|name| (name == "long-question") == moves),
            "{threads:?}"
        );
    }
}

#[tokio::test]
async fn pipeline_that_becomes_long_moves_in_the_middle_of_its_work() {
    let config = Config { long_after: Duration::from_secs(3_600), ..Config::default() };
    let effort = effort(&config, &Arc::new(Places::new(&config))).await;
    let (mut numbers_of_scan, threads) = scan(50, false);
    let (columns, long, mut waited) = (numbers_of_scan.schema(), effort.clone(), false);
    // It never hands on what it computes, but waits once and becomes long by that.
    let sum = async move {
        let mut sum = 0;
        while let Some(batch) = numbers_of_scan.try_next().await? {
            sum += batch.column(0).as_primitive::<Int64Type>().value(0);
            if sum > 100 && !waited {
                waited = true;
                long.computed_us.store(u64::MAX / 2, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
        Ok(RecordBatch::try_new(numbers_of_scan.schema(), vec![Arc::new(Int64Array::from(vec![sum]))])?)
    };
    let rows = Box::pin(RecordBatchStreamAdapter::new(columns, stream::once(sum)));
    assert_eq!(numbers(&effort, rows).await.unwrap(), [(0..50).sum::<i64>()]);
    let threads = threads.lock().unwrap();
    let moved = threads.iter().position(|name| name == "long-question");
    assert!(threads.len() == 50 && moved.is_some_and(|at| at > 10), "{threads:?}");
}

#[tokio::test]
async fn scan_that_fails_elsewhere_does_not_look_like_one_that_has_ended() {
    let config = Config { long_after: Duration::ZERO, ..Config::default() };
    let effort = effort(&config, &Arc::new(Places::new(&config))).await;
    let failed = numbers(&effort, scan(3, true).0).await.unwrap_err();
    assert!(failed.to_string().contains("panic"), "{failed}");
}

#[tokio::test]
async fn scans_of_one_question_share_its_place_and_another_question_waits_for_one() {
    let wait_max = Duration::from_millis(20);
    let config = Config { long_after: Duration::ZERO, long_max: 1, wait_max, ..Config::default() };
    let places = Arc::new(Places::new(&config));
    let (one, other) = (effort(&config, &places).await, effort(&config, &places).await);
    numbers(&one, scan(3, false).0).await.unwrap();
    numbers(&one, scan(3, false).0).await.unwrap();
    let busy = numbers(&other, scan(3, false).0).await.unwrap_err();
    assert!(busy.to_string().contains("long questions are being answered"), "{busy}");
    drop(one);
    numbers(&other, scan(3, false).0).await.unwrap();
}
