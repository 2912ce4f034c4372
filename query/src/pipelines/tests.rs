use std::{collections::BTreeSet, sync::Mutex, thread, time::Duration};

use arrow::{
    array::{Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema},
    util::pretty::pretty_format_batches,
};
use datafusion::{
    datasource::MemTable,
    logical_expr::{ColumnarValue, Volatility, create_udf},
    physical_plan::{displayable, execute_stream},
    prelude::{SessionConfig, SessionContext},
};
use futures::TryStreamExt;

use super::*;
use crate::{Config, Grant, effort::LongThreads, places::Places};

/// Groups and sorts; `here` notes the thread that computes it, before and after rows are spread.
const SQL: &str =
    "SELECT device, here(sum(here(value))) AS total FROM readings GROUP BY device ORDER BY here(device)";

/// An engine with two parts of a table, and the threads that its questions have been computed on.
fn engine() -> (SessionContext, Arc<Mutex<BTreeSet<String>>>) {
    let fields = ["device", "value"].map(|name| Field::new(name, DataType::Int64, false));
    let columns = Arc::new(Schema::new(fields.to_vec()));
    let part = |first: i64| {
        let devices = Int64Array::from_iter_values((first..first + 500).map(|row| row % 7));
        let values = Int64Array::from_iter_values(first..first + 500);
        vec![RecordBatch::try_new(columns.clone(), vec![Arc::new(devices), Arc::new(values)]).unwrap()]
    };
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    let table = MemTable::try_new(columns.clone(), vec![part(0), part(500)]).unwrap();
    context.register_table("readings", Arc::new(table)).unwrap();
    let threads = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = threads.clone();
    let here = move |values: &[ColumnarValue]| {
        seen.lock().unwrap().insert(thread::current().name().unwrap_or_default().to_owned());
        Ok(values[0].clone())
    };
    let (number, volatile) = (DataType::Int64, Volatility::Volatile);
    context.register_udf(create_udf("here", vec![number.clone()], number, volatile, Arc::new(here)));
    (context, threads)
}

async fn effort(long_after: Duration) -> Arc<Effort> {
    let config = Config { long_after, ..Config::default() };
    let places = Arc::new(Places::new(&config));
    let first = places.take(&Grant::All).await.unwrap();
    Arc::new(Effort::new(&config, places, first, Arc::new(LongThreads::start().unwrap())))
}

#[tokio::test]
async fn all_pipelines_of_a_long_question_move_and_it_has_the_same_answer() {
    let mut answers = BTreeSet::new();
    for (long_after, moves) in [(Duration::ZERO, true), (Duration::MAX, false)] {
        let (context, threads) = engine();
        let question = context.sql(SQL).await.unwrap();
        let (context, plan) = (Arc::new(question.task_ctx()), question.create_physical_plan().await.unwrap());
        let plan = movable(plan, &effort(long_after).await).unwrap();
        let rows: Vec<RecordBatch> = execute_stream(plan, context).unwrap().try_collect().await.unwrap();
        answers.insert(pretty_format_batches(&rows).unwrap().to_string());
        let threads = threads.lock().unwrap();
        assert!(
            !threads.is_empty() && threads.iter().all(|name| (name == "long-question") == moves),
            "{threads:?}"
        );
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn each_exchange_takes_rows_from_a_pipeline_and_nothing_else_is_changed() {
    let plan = engine().0.sql(SQL).await.unwrap().create_physical_plan().await.unwrap();
    let lines = |plan: &Arc<dyn ExecutionPlan>| -> Vec<String> {
        displayable(plan.as_ref())
            .indent(false)
            .to_string()
            .lines()
            .map(|line| line.trim().to_owned())
            .collect()
    };
    let before = lines(&plan);
    let after = lines(&movable(plan, &effort(Duration::MAX).await).unwrap());
    let is_exchange =
        |line: &&String| line.starts_with("RepartitionExec") || line.starts_with("SortPreservingMergeExec");
    assert_eq!(before.iter().filter(is_exchange).count(), 2, "{before:#?}");
    let (pipelines, others): (Vec<String>, Vec<String>) =
        after.iter().cloned().partition(|line| line == "Pipeline");
    assert_eq!((pipelines.len(), others), (3, before));
    let behind = after.iter().zip(&after[1..]).filter(|(line, _)| is_exchange(line));
    assert!(behind.clone().all(|(_, next)| next == "Pipeline"), "{after:#?}");
}
