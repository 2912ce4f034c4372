//! Hides `date` from `SELECT *`: it follows from `time`, and no device has said it.
//!
//! The parsed question is rewritten: a `*` over tables of ours becomes `* EXCLUDE (date)`, so that whoever
//! asks for `date` by name still gets it. Names of a WITH clause are not tables of ours.

use std::collections::BTreeSet;

use datafusion::sql::{
    parser::Statement,
    sqlparser::ast::{
        ExcludeSelectItem, Ident, ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind,
        SetExpr, Statement as Plain, TableFactor, TableWithJoins, WildcardAdditionalOptions,
    },
};

use crate::table_at::TABLE_AT;

const HIDDEN: &str = "date";

/// Rewrites every `*` of a statement; `tables` are those of ours.
pub fn hide_date(statement: &mut Statement, tables: &BTreeSet<String>) {
    match statement {
        Statement::Statement(plain) => match plain.as_mut() {
            Plain::Query(query) => Scope { tables: tables.clone() }.query(query),
            Plain::Explain { statement, .. } => {
                if let Plain::Query(query) = statement.as_mut() {
                    Scope { tables: tables.clone() }.query(query);
                }
            }
            _ => {}
        },
        Statement::Explain(explain) => hide_date(&mut explain.statement, tables),
        _ => {}
    }
}

/// The tables of ours that a part of the question can name.
struct Scope {
    tables: BTreeSet<String>,
}

/// One table of a FROM clause: how `*` can be qualified with it, and whether it is ours.
struct Relation {
    name: ObjectName,
    ours: bool,
}

impl Scope {
    fn query(&self, query: &mut Query) {
        let mut inner = Scope { tables: self.tables.clone() };
        if let Some(with) = &mut query.with {
            for cte in &mut with.cte_tables {
                let name = normal(&cte.alias.name);
                if with.recursive {
                    inner.tables.remove(&name);
                }
                inner.query(&mut cte.query);
                inner.tables.remove(&name);
            }
        }
        inner.body(&mut query.body);
    }

    fn body(&self, body: &mut SetExpr) {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left);
                self.body(right);
            }
            _ => {}
        }
    }

    fn select(&self, select: &mut Select) {
        // `None` where one of the tables has no name to qualify a `*` with; then nothing is hidden.
        let mut relations = Some(Vec::new());
        for from in &mut select.from {
            self.joined(from, &mut relations);
        }
        let Some(relations) = relations.filter(|relations| relations.iter().any(|relation| relation.ours))
        else {
            return;
        };
        let items = std::mem::take(&mut select.projection);
        select.projection = items.into_iter().flat_map(|item| expand(item, &relations)).collect();
    }

    fn joined(&self, from: &mut TableWithJoins, relations: &mut Option<Vec<Relation>>) {
        self.factor(&mut from.relation, relations);
        for join in &mut from.joins {
            self.factor(&mut join.relation, relations);
        }
    }

    fn factor(&self, factor: &mut TableFactor, relations: &mut Option<Vec<Relation>>) {
        let relation = match factor {
            TableFactor::Table { name, alias, args, .. } => {
                let renamed = alias.as_ref().is_some_and(|alias| !alias.columns.is_empty());
                let (own, ours) = match args {
                    None => (name.clone(), self.is_ours(name)),
                    Some(_) => (called(name), same(name, &ObjectName::from(Ident::new(TABLE_AT)))),
                };
                let named = alias.as_ref().map_or(own, |alias| alias.name.clone().into());
                Some(Relation { name: named, ours: ours && !renamed })
            }
            TableFactor::Derived { subquery, alias, .. } => {
                self.query(subquery);
                alias.as_ref().map(|alias| Relation { name: alias.name.clone().into(), ours: false })
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                return self.joined(table_with_joins, relations);
            }
            _ => None,
        };
        match (relation, relations.as_mut()) {
            (Some(relation), Some(relations)) => relations.push(relation),
            _ => *relations = None,
        }
    }

    fn is_ours(&self, name: &ObjectName) -> bool {
        let last = name.0.last().and_then(|part| part.as_ident());
        last.is_some_and(|last| self.tables.contains(&normal(last)))
    }
}

/// The name that the engine gives to what a function answers.
fn called(function: &ObjectName) -> ObjectName {
    let last = function.0.last().and_then(|part| part.as_ident()).map(normal);
    Ident::with_quote('"', format!("{}()", last.unwrap_or_default())).into()
}

/// A name as the engine reads it: lower case unless quoted.
fn normal(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

fn expand(item: SelectItem, relations: &[Relation]) -> Vec<SelectItem> {
    match item {
        SelectItem::Wildcard(options) if is_plain(&options) => match relations {
            [_] => vec![SelectItem::Wildcard(without_date(options))],
            _ => relations.iter().map(|relation| qualified(relation, &options)).collect(),
        },
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options)
            if is_plain(&options)
                && relations.iter().any(|relation| relation.ours && same(&relation.name, &name)) =>
        {
            let kind = SelectItemQualifiedWildcardKind::ObjectName(name);
            vec![SelectItem::QualifiedWildcard(kind, without_date(options))]
        }
        other => vec![other],
    }
}

fn qualified(relation: &Relation, options: &WildcardAdditionalOptions) -> SelectItem {
    let kind = SelectItemQualifiedWildcardKind::ObjectName(relation.name.clone());
    let options = if relation.ours { without_date(options.clone()) } else { options.clone() };
    SelectItem::QualifiedWildcard(kind, options)
}

/// Whether a column can be left out beside what the question leaves out itself.
fn is_plain(options: &WildcardAdditionalOptions) -> bool {
    options.opt_except.is_none() && options.opt_ilike.is_none()
}

fn without_date(options: WildcardAdditionalOptions) -> WildcardAdditionalOptions {
    let mut left_out = match &options.opt_exclude {
        None => Vec::new(),
        Some(ExcludeSelectItem::Single(name)) => vec![name.clone()],
        Some(ExcludeSelectItem::Multiple(names)) => names.clone(),
    };
    let date = ObjectName::from(Ident::new(HIDDEN));
    if !left_out.iter().any(|name| same(name, &date)) {
        left_out.push(date);
    }
    WildcardAdditionalOptions { opt_exclude: Some(ExcludeSelectItem::Multiple(left_out)), ..options }
}

fn same(one: &ObjectName, other: &ObjectName) -> bool {
    let last = |name: &ObjectName| name.0.last().and_then(|part| part.as_ident()).map(normal);
    last(one) == last(other)
}
