//! A session for each question, which holds only what the grant allows and can change nothing.

use std::{borrow::Cow, sync::Arc};

use datafusion::{
    catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList},
    common::{
        TableReference,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    dataframe::DataFrame,
    execution::{
        FunctionRegistry, SessionState, SessionStateBuilder, TaskContext,
        memory_pool::FairSpillPool,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    logical_expr::{Expr, LogicalPlan, Volatility},
    physical_plan::ExecutionPlan,
    prelude::{SQLOptions, SessionConfig, SessionContext},
    sql::parser::Statement,
};
use zeugma_lake::Lake;

use crate::{
    Config, Error,
    catalog::Known,
    date_trunc::{DATE_TRUNC, date_trunc},
    in_front::{Call, InFront},
    left_side::LEFT_SIDES,
    long_texts::{LONG_LISTS, LONG_TEXTS, long_text},
    memory::OfOne,
    runs::RULES,
    schema::Schema,
    statement,
    table::{Tables, store_url},
    table_at::{TABLE_AT, TableAt},
    wildcard,
};

const CATALOG: &str = "zeugma";
const SCHEMA: &str = "public";

/// As the engine has it.
const SORT_RESERVATION_BYTES_MAX: usize = 10 << 20;

/// What all sessions share: memory, caches, functions and settings.
#[derive(Debug)]
pub struct Sessions {
    template: SessionState,
    memory_bytes_max_of_one: usize,
    stays_bytes_max_of_one: usize,
}

impl Sessions {
    /// Prepares what sessions share.
    pub fn new(lake: &Lake, config: &Config) -> Result<Sessions, Error> {
        let runtime = runtime(lake, config)?;
        let mut builder = SessionStateBuilder::new_with_default_features()
            .with_config(settings(config))
            .with_runtime_env(runtime);
        for rule in RULES.into_iter().chain([LEFT_SIDES]) {
            builder = builder.with_physical_optimizer_rule(Arc::new(rule));
        }
        let mut template = builder.build();
        let in_front = [(DATE_TRUNC, date_trunc as Call)].into_iter();
        for (name, call) in in_front.chain(LONG_TEXTS.map(|name| (name, long_text as Call))) {
            let engine = template.udf(name)?;
            template.register_udf(Arc::new(InFront::of(engine, call)))?;
        }
        for name in LONG_LISTS {
            template.deregister_udf(name)?;
        }
        let Config { memory_bytes_max_of_one, stays_bytes_max_of_one, .. } = *config;
        Ok(Sessions { template, memory_bytes_max_of_one, stays_bytes_max_of_one })
    }

    /// Reads a question that came as text.
    ///
    /// # Errors
    /// As [`statement::parse`].
    pub fn read(&self, sql: &str) -> Result<Statement, Error> {
        statement::parse(&self.template, sql)
    }

    /// A session that holds the known tables, cut to the grant.
    pub fn session(&self, tables: Tables, known: &Arc<Known>) -> Result<Session, Error> {
        let schema = Arc::new(Schema { of: tables.clone(), known: known.clone() });
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(SCHEMA, schema)?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        // A copy: to build one registers all functions again, which takes as long as to plan a short question.
        let mut state = self.template.clone();
        state.register_catalog_list(Arc::new(catalogs));
        // `now()` is this moment for the whole question, and known before any file is chosen.
        state.mark_start_execution();
        state.register_udtf(TABLE_AT, Arc::new(TableAt { of: tables, known: known.clone() }));
        Ok(Session { state, runtime: self.runtime_of_one(), known: known.clone() })
    }

    /// What questions share, with a limit of its own to one's memory.
    fn runtime_of_one(&self) -> Arc<RuntimeEnv> {
        let shared = self.template.runtime_env();
        let all = shared.memory_pool.clone();
        let memory = OfOne::new(self.memory_bytes_max_of_one, self.stays_bytes_max_of_one, all);
        Arc::new(RuntimeEnv { memory_pool: Arc::new(memory), ..RuntimeEnv::clone(shared) })
    }
}

/// One question's session.
pub struct Session {
    state: SessionState,
    runtime: Arc<RuntimeEnv>,
    known: Arc<Known>,
}

/// What a question asks, and the session in which it does.
pub struct Plan {
    state: SessionState,
    runtime: Arc<RuntimeEnv>,
    meaning: Arc<Meaning>,
}

/// What a question comes to before anything is known of files and rows.
#[derive(Debug, Clone)]
pub enum Meaning {
    /// The same whenever it is asked, so it is optimised already.
    Lasting(LogicalPlan),
    /// Something else tomorrow, as `now()` is in it.
    OfTheMoment(LogicalPlan),
}

impl Session {
    /// Plans a question that came as text.
    pub async fn plan(self, statement: &Statement) -> Result<Plan, Error> {
        let mut shown = statement.clone();
        wildcard::hide_date(&mut shown, &self.known.names);
        let planned = self.state.statement_to_plan(shown).await;
        let logical = planned.map_err(|error| self.explain(error.into(), statement))?;
        let options =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        options
            .verify_plan(&logical)
            .map_err(|_| Error::ReadOnly("a statement that makes or changes something".into()))?;
        let meaning = Meaning::of(logical, &self.state)?;
        Ok(self.plan_again(Arc::new(meaning)))
    }

    /// The plan of a question whose meaning is known.
    pub fn plan_again(self, meaning: Arc<Meaning>) -> Plan {
        Plan { state: self.state, runtime: self.runtime, meaning }
    }

    /// Plans a question that is built on a table of ours, without any text.
    pub async fn plan_on(
        self,
        name: &str,
        build: impl FnOnce(DataFrame) -> Result<DataFrame, Error>,
    ) -> Result<Plan, Error> {
        // Quoted names are taken as they are: nothing of a name is ever parsed.
        let reference = TableReference::full(CATALOG, SCHEMA, name);
        let table = SessionContext::new_with_state(self.state).table(reference).await?;
        let (state, logical) = build(table)?.into_parts();
        Ok(Plan { meaning: Arc::new(Meaning::of(logical, &state)?), state, runtime: self.runtime })
    }

    /// A table that a question names and that this session does not have.
    fn unknown_name(&self, statement: &Statement) -> Option<String> {
        let references = self.state.resolve_table_references(statement).ok()?;
        let in_ours = |schema: Option<&str>| schema.is_none_or(|schema| schema == SCHEMA);
        let unknown = |found: &&TableReference| {
            in_ours(found.schema())
                && !self.known.names.contains(found.table())
                && !is_function(&self.state, found.table())
        };
        references.iter().find(unknown).map(|found| found.table().to_owned())
    }

    /// Whether a question is about one table, so that a version belongs to it.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is not.
    pub fn check_one_table(&self, statement: &Statement) -> Result<(), Error> {
        let named = self.state.resolve_table_references(statement)?;
        match named.as_slice() {
            [one] if !is_function(&self.state, one.table()) => Ok(()),
            _ => Err(Error::Invalid(
                "`version` is for a question about one table; in others write table_at('fleet', 3)".into(),
            )),
        }
    }

    /// The same error, or a clearer one where a name is the reason.
    fn explain(&self, error: Error, statement: &Statement) -> Error {
        match (error, self.unknown_name(statement)) {
            (Error::Sql { place, .. }, Some(unknown)) => {
                let known: Vec<&str> = self.known.names.iter().map(String::as_str).collect();
                let message = format!("there is no table `{unknown}`; there are {}", known.join(", "));
                Error::Sql { message, place }
            }
            (error, _) => error,
        }
    }
}

impl Plan {
    /// What it means.
    pub fn meaning(&self) -> &Arc<Meaning> {
        &self.meaning
    }

    /// How it is answered, and with what.
    pub async fn physical(&self) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>), Error> {
        let optimised = match &*self.meaning {
            Meaning::Lasting(plan) => Cow::Borrowed(plan),
            Meaning::OfTheMoment(plan) => Cow::Owned(self.state.optimize(plan)?),
        };
        let plan = self.state.query_planner().create_physical_plan(&optimised, &self.state).await?;
        let context = TaskContext::from(&self.state).with_runtime(self.runtime.clone());
        Ok((plan, Arc::new(context)))
    }
}

impl Meaning {
    fn of(plan: LogicalPlan, state: &SessionState) -> Result<Meaning, Error> {
        Ok(match is_of_the_moment(&plan)? {
            true => Meaning::OfTheMoment(plan),
            false => Meaning::Lasting(state.optimize(&plan)?),
        })
    }

    /// As the engine has it.
    pub fn plan(&self) -> &LogicalPlan {
        match self {
            Meaning::Lasting(plan) | Meaning::OfTheMoment(plan) => plan,
        }
    }
}

/// Whether a function of a plan answers other values at another time.
fn is_of_the_moment(plan: &LogicalPlan) -> Result<bool, Error> {
    let mut is_of_the_moment = false;
    plan.apply_with_subqueries(|part| {
        part.apply_expressions(|expr| {
            expr.apply(|expr| {
                let Expr::ScalarFunction(call) = expr else { return Ok(TreeNodeRecursion::Continue) };
                is_of_the_moment |= call.func.signature().volatility != Volatility::Immutable;
                Ok(if is_of_the_moment { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })?;
    Ok(is_of_the_moment)
}

fn is_function(state: &SessionState, name: &str) -> bool {
    state.table_functions().contains_key(name)
}

fn settings(config: &Config) -> SessionConfig {
    let mut settings = SessionConfig::new()
        .with_information_schema(true)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        // Two of the engine's usual batches: a tenth less for questions that read very much.
        .with_batch_size(16_384)
        // What one part of a plan reads it computes on: to hand rows on to others costs a question of a few
        // milliseconds one of them, and large scans have a part for each core anyway.
        .with_round_robin_repartition(false);
    let options = settings.options_mut();
    options.sql_parser.collect_spans = true;
    options.execution.parquet.enable_page_index = true;
    // Each part of a plan that sorts keeps so much for the time when it has to merge what lies on the disk. There are
    // up to two parts for each core, and they leave half of what stays to others.
    let parts = 2 * options.execution.target_partitions + 1;
    options.execution.sort_spill_reservation_bytes =
        SORT_RESERVATION_BYTES_MAX.min(config.stays_bytes_max_of_one / (2 * parts));
    settings
}

fn runtime(lake: &Lake, config: &Config) -> Result<Arc<RuntimeEnv>, Error> {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(config.memory_bytes_max)))
        .with_metadata_cache_limit(config.metadata_bytes_max)
        .with_max_temp_directory_size(config.spill_bytes_max)
        .build_arc()?;
    let url = store_url(lake)?;
    runtime.register_object_store(url.as_ref(), lake.store().root());
    Ok(runtime)
}
