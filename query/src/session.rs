//! A session for each question, which holds only what the grant allows and can change nothing.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::{
    catalog::{
        CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
        MemorySchemaProvider, SchemaProvider, TableProvider,
    },
    common::TableReference,
    dataframe::DataFrame,
    execution::{
        FunctionRegistry, SessionState, SessionStateBuilder,
        memory_pool::FairSpillPool,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    prelude::{SQLOptions, SessionConfig, SessionContext},
    sql::parser::Statement,
};
use zeugma_lake::Lake;

use crate::{
    Config, Error,
    catalog::{Known, LATEST},
    date_trunc::{DATE_TRUNC, date_trunc},
    in_front::{Call, InFront},
    latest_table::LatestTable,
    left_side::LEFT_SIDES,
    long_texts::{LONG_LISTS, LONG_TEXTS, long_text},
    memory::OfOne,
    runs::RULES,
    statement,
    table::{DomainTable, Tables, store_url},
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
    pub fn session(&self, tables: &Tables, known: &Known) -> Result<Session, Error> {
        let schema = MemorySchemaProvider::new();
        for (name, table) in &known.tables {
            let domain = || DomainTable { of: tables.clone(), table: table.clone() };
            schema.register_table(name.clone(), Arc::new(domain()) as Arc<dyn TableProvider>)?;
            if known.domains.get(name).is_some() {
                let latest = Arc::new(LatestTable { domain: domain() });
                schema.register_table(format!("{name}{LATEST}"), latest)?;
            }
        }
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(SCHEMA, Arc::new(schema))?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let state = SessionStateBuilder::new_from_existing(self.template.clone())
            .with_catalog_list(Arc::new(catalogs))
            .with_runtime_env(self.runtime_of_one());
        let mut state = state.build();
        // `now()` is this moment for the whole question, and known before any file is chosen.
        state.mark_start_execution();
        let at = TableAt { of: tables.clone(), tables: known.tables.clone() };
        state.register_udtf(TABLE_AT, Arc::new(at));
        Ok(Session { state, tables: known.names().collect() })
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
    tables: BTreeSet<String>,
}

impl Session {
    /// Plans a question that came as text.
    pub async fn plan(&self, statement: &Statement) -> Result<DataFrame, Error> {
        let mut shown = statement.clone();
        wildcard::hide_date(&mut shown, &self.tables);
        let planned = self.state.statement_to_plan(shown).await;
        let plan = planned.map_err(|error| self.explain(error.into(), statement))?;
        let options =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        options
            .verify_plan(&plan)
            .map_err(|_| Error::ReadOnly("a statement that makes or changes something".into()))?;
        Ok(DataFrame::new(self.state.clone(), plan))
    }

    /// A table of ours, to build a question on without any text.
    pub async fn table(&self, name: &str) -> Result<DataFrame, Error> {
        // Quoted names are taken as they are: nothing of a name is ever parsed.
        let reference = TableReference::full(CATALOG, SCHEMA, name);
        Ok(SessionContext::new_with_state(self.state.clone()).table(reference).await?)
    }

    /// A table that a question names and that this session does not have.
    fn unknown_name(&self, statement: &Statement) -> Option<String> {
        let references = self.state.resolve_table_references(statement).ok()?;
        let in_ours = |schema: Option<&str>| schema.is_none_or(|schema| schema == SCHEMA);
        let unknown = |found: &&TableReference| {
            in_ours(found.schema())
                && !self.tables.contains(found.table())
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
                let known: Vec<&str> = self.tables.iter().map(String::as_str).collect();
                let message = format!("there is no table `{unknown}`; there are {}", known.join(", "));
                Error::Sql { message, place }
            }
            (error, _) => error,
        }
    }
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
