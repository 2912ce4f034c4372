//! What tests of the rules need: an engine of its own, with a rule or without.

use std::sync::Arc;

use arrow::{array::RecordBatch, util::pretty::pretty_format_batches};
use datafusion::{
    datasource::MemTable,
    execution::SessionStateBuilder,
    prelude::{SessionConfig, SessionContext},
};

use crate::rule::Rule;

/// What an engine, usual or with one rule more, answers about the table `readings`, and its plan.
pub async fn answer(parts: &[Vec<RecordBatch>], sql: &str, rule: Option<Rule>) -> (Vec<RecordBatch>, String) {
    let state = SessionStateBuilder::new_with_default_features()
        .with_config(SessionConfig::new().with_target_partitions(2));
    let state =
        rule.into_iter().fold(state, |state, rule| state.with_physical_optimizer_rule(Arc::new(rule)));
    let context = SessionContext::new_with_state(state.build());
    let table = MemTable::try_new(parts[0][0].schema(), parts.to_vec()).unwrap();
    context.register_table("readings", Arc::new(table)).unwrap();
    let ask = async |sql: &str| context.sql(sql).await.unwrap().collect().await.unwrap();
    let plan = ask(&format!("EXPLAIN {sql}")).await;
    (ask(sql).await, pretty_format_batches(&plan).unwrap().to_string())
}
