//! A question's text becomes a statement: its size is bounded, and it may only ask.

use std::{collections::HashMap, ops::ControlFlow};

use datafusion::{
    execution::SessionState,
    sql::{
        parser::Statement,
        sqlparser::{
            ast::{ObjectName, ObjectNamePart, Query, Statement as Plain, TableFactor, Visit, Visitor},
            dialect::GenericDialect,
            keywords::Keyword,
            tokenizer::{Token, Tokenizer},
        },
    },
};

use crate::Error;

/// Longest question; a list of 50,000 devices still fits in.
pub const SQL_BYTES_MAX: usize = 1024 * 1024;

/// Most operators of a question. `a + a + …` nests as deep as it is long, and each level needs about
/// 500 bytes of stack to be copied or dropped: 1,000 levels need a quarter of a thread's 2 MiB.
const OPERATORS_MAX: usize = 1_000;

/// Most tables of a question, repetitions included; each is a scan, and joins of more are planned for too long. What
/// stands in a `WITH` is planned anew wherever it is used, so its tables count as often.
const RELATIONS_MAX: usize = 64;

/// Reads one statement that asks for something.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::Sql`] with the parser's words, or [`Error::ReadOnly`].
pub fn parse(session: &SessionState, sql: &str) -> Result<Statement, Error> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(Error::TooLarge(format!(
            "a question may have {SQL_BYTES_MAX} bytes; this one has {}",
            sql.len()
        )));
    }
    check_depth(sql)?;
    let dialect = session.config_options().sql_parser.dialect;
    let statement = session.sql_to_statement(sql, &dialect).map_err(|error| match error {
        // One is all that is allowed; the engine says so as if it were a feature that is missing.
        datafusion::error::DataFusionError::NotImplemented(_) => {
            Error::ReadOnly("more than one statement".to_owned())
        }
        other => other.into(),
    })?;
    check_asks(&statement)?;
    let relations = count_relations(&statement);
    if relations > RELATIONS_MAX {
        return Err(Error::Limit(format!(
            "a question may name {RELATIONS_MAX} tables, those of a WITH wherever it is used; this one names {relations}"
        )));
    }
    Ok(statement)
}

/// Refuses what would nest too deep, before anything nests.
pub(crate) fn check_depth(sql: &str) -> Result<(), Error> {
    // Each operator has a byte.
    if sql.len() <= OPERATORS_MAX {
        return Ok(());
    }
    let mut tokens = Vec::new();
    // What cannot be read at all is refused by the parser, which says where.
    let _ = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location_into_buf(&mut tokens);
    let operators = tokens.iter().filter(|token| nests(&token.token)).count();
    if operators > OPERATORS_MAX {
        return Err(Error::Limit(format!(
            "a question may have {OPERATORS_MAX} operators; this one has {operators}: write a list as `x IN (…)`"
        )));
    }
    Ok(())
}

/// Whether a token can make an expression, a join or a union one level deeper.
fn nests(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::SIMILAR
                | Keyword::BETWEEN
                | Keyword::DIV
                | Keyword::AT
                | Keyword::COLLATE
                | Keyword::NOTNULL
                | Keyword::OVERLAPS
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::MINUS
                | Keyword::JOIN
                | Keyword::OPERATOR
                | Keyword::MEMBER
        ),
        Token::EOF | Token::Whitespace(_) | Token::Comma | Token::Period | Token::SemiColon => false,
        Token::LParen | Token::RParen | Token::RBracket | Token::RBrace => false,
        Token::Number(..) | Token::Placeholder(_) | Token::Char(_) => false,
        Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) | Token::EscapedStringLiteral(_) => false,
        _ => true,
    }
}

fn check_asks(statement: &Statement) -> Result<(), Error> {
    let refused = |what: &str| Err(Error::ReadOnly(what.to_owned()));
    match statement {
        Statement::Statement(plain) => match plain.as_ref() {
            Plain::Query(_) | Plain::ExplainTable { .. } => Ok(()),
            Plain::Explain { statement, .. } if matches!(statement.as_ref(), Plain::Query(_)) => Ok(()),
            Plain::ShowVariable { .. }
            | Plain::ShowTables { .. }
            | Plain::ShowColumns { .. }
            | Plain::ShowFunctions { .. } => Ok(()),
            other => refused(&first_word(&other.to_string())),
        },
        Statement::Explain(explain) => check_asks(&explain.statement),
        Statement::CopyTo(_) => refused("COPY"),
        Statement::CreateExternalTable(_) => refused("CREATE EXTERNAL TABLE"),
        Statement::Reset(_) => refused("RESET"),
    }
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or("this").to_owned()
}

/// Whether a question's plan is the same when it is asked again. The engine works out what table functions are given,
/// `now()` too, while it plans; and of an EXPLAIN it keeps all that it tells.
pub fn may_be_kept(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(plain) => {
            matches!(plain.as_ref(), Plain::Query(_)) && plain.visit(&mut NoTableFunctions).is_continue()
        }
        _ => false,
    }
}

struct NoTableFunctions;

impl Visitor for NoTableFunctions {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { args: None, .. }
            | TableFactor::Derived { .. }
            | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}

/// How many tables a question names, and how many it does with those of each `WITH` wherever that is used.
fn count_relations(statement: &Statement) -> usize {
    match statement {
        Statement::Statement(plain) => {
            let mut names = Names::default();
            let _ = plain.visit(&mut names);
            // So that what follows is not deeper than that.
            if names.count > RELATIONS_MAX { names.count } else { names.expanded() }
        }
        Statement::Explain(explain) => count_relations(&explain.statement),
        _ => 0,
    }
}

/// The names of tables in a question, by where they stand: in the definition of a name by a `WITH`, or in none.
#[derive(Default)]
struct Names {
    count: usize,
    outside: Vec<Option<String>>,
    /// A name that is defined twice stands for both: rather too many than too few.
    within: HashMap<String, Vec<Option<String>>>,
    /// The parts of the question that define a name.
    definitions: HashMap<*const Query, String>,
    /// Those that are being visited.
    open: Vec<String>,
    expanded: HashMap<String, usize>,
}

impl Names {
    fn expanded(&mut self) -> usize {
        let outside = std::mem::take(&mut self.outside);
        self.sum(&outside)
    }

    fn sum(&mut self, names: &[Option<String>]) -> usize {
        names.iter().fold(0, |sum, name| sum.saturating_add(self.stands_for(name.as_deref())))
    }

    fn stands_for(&mut self, name: Option<&str>) -> usize {
        let Some(name) = name.filter(|name| self.within.contains_key(*name)) else { return 1 };
        if let Some(known) = self.expanded.get(name) {
            return *known;
        }
        // A recursion names itself, and is planned once.
        self.expanded.insert(name.to_owned(), 1);
        let within = self.within[name].clone();
        let count = self.sum(&within).max(1);
        self.expanded.insert(name.to_owned(), count);
        count
    }
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for defined in query.with.iter().flat_map(|with| &with.cte_tables) {
            let name = defined.alias.name.value.to_lowercase();
            self.within.entry(name.clone()).or_default();
            self.definitions.insert(&raw const *defined.query, name);
        }
        if let Some(name) = self.definitions.get(&(&raw const *query)) {
            self.open.push(name.clone());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.definitions.contains_key(&(&raw const *query)) {
            self.open.pop();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        self.count += 1;
        // What a `WITH` defines has one part, in quotes or without.
        let name = match relation.0.as_slice() {
            [ObjectNamePart::Identifier(name)] => Some(name.value.to_lowercase()),
            _ => None,
        };
        let names = self.open.last().and_then(|open| self.within.get_mut(open));
        names.unwrap_or(&mut self.outside).push(name);
        ControlFlow::Continue(())
    }
}
