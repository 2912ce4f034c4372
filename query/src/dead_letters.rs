//! Dead letters are chosen by a condition, and read page by page in the order in which they once arrived.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use datafusion::{
    common::ScalarValue,
    dataframe::DataFrame,
    logical_expr::{Expr, col, lit},
};
use futures::TryStreamExt;
use zeugma_schemas::{
    batch::date_of,
    dead_letter::{DeadLetter, Reason, TABLE, from_batch},
};

use crate::{Answer, Error, Grant, Query, Rows, statement};

/// Letters of one replay: 1,000,000 x 64 bytes of their keys are 64 MB.
pub const LETTERS_MAX: usize = 1_000_000;

/// Letters of a page; twice the payloads that a busy second brings.
const PAGE_LETTERS_MAX: usize = 4_096;

/// Payloads of a page: with the copy that the journal gets, a replay holds about 10 MB. One letter more may
/// come on top, of 256 KiB.
const PAGE_BYTES_MAX: i64 = 4 << 20;

/// The columns that say which letter it is, when it came, why it was refused and how large it is.
const COLUMNS: [&str; 6] = ["received_at", "source", "position", "index", "reason", "payload_bytes"];

/// What identifies a letter.
type Key = (Arc<str>, i64, i64);

/// A letter that is to be replayed, in little.
#[derive(Debug, Clone)]
struct Chosen {
    received_at_us: i64,
    key: Key,
    payload_bytes: i64,
}

/// The letters that a condition chooses, not read yet.
#[derive(Debug)]
pub struct Choice {
    condition: String,
    /// In reverse, so that pages are taken from the end.
    left: Vec<Chosen>,
    /// How many are to be replayed.
    pub letters: usize,
    /// Letters of which only the beginning was kept; they can never be replayed.
    pub cut: usize,
    /// Letters that a replay has settled before.
    pub settled: usize,
    /// Whether there are more than one replay takes.
    pub more: bool,
}

impl Choice {
    /// Chooses the letters that fulfil a condition, as SQL has it behind `WHERE`, and are not settled.
    ///
    /// # Errors
    /// Where the condition is not understood, or the lake or the tail does not answer.
    pub async fn of(query: &Query, condition: &str) -> Result<Choice, Error> {
        statement::check_depth(condition)?;
        let mut choice = Choice {
            condition: condition.to_owned(),
            left: Vec::new(),
            letters: 0,
            cut: 0,
            settled: 0,
            more: false,
        };
        let settled = settled(query).await?;
        let (mut sources, mut seen) = (HashMap::new(), 0);
        let mut batches = choice.keys(query).await?.into_batches();
        while let Some(rows) = batches.try_next().await? {
            for (chosen, reason) in chosen(&rows, &mut sources) {
                seen += 1;
                if seen > LETTERS_MAX {
                    choice.more = true;
                } else if settled.contains(&chosen.key) {
                    choice.settled += 1;
                } else if reason == Reason::TooLarge.as_str() {
                    choice.cut += 1;
                } else {
                    choice.left.push(chosen);
                }
            }
        }
        choice.letters = choice.left.len();
        choice.left.reverse();
        Ok(choice)
    }

    async fn keys(&self, query: &Query) -> Result<Answer, Error> {
        let order = COLUMNS[..4].iter().map(|name| col(*name).sort(true, false)).collect();
        self.ask(query, |letters| {
            Ok(letters.select_columns(&COLUMNS)?.sort(order)?.limit(0, Some(LETTERS_MAX + 1))?)
        })
        .await
    }

    /// The letters that fulfil the condition, and what `build` makes of them. The operator alone replays, so
    /// all tenants are granted.
    async fn ask(
        &self,
        query: &Query,
        build: impl FnOnce(DataFrame) -> Result<DataFrame, Error>,
    ) -> Result<Answer, Error> {
        query
            .ask_table(&Grant::All, Rows::LakeAndTail, TABLE, |letters| {
                let condition = letters.parse_sql_expr(&self.condition)?;
                build(letters.filter(condition)?.filter(col("reason").not_eq(text(Reason::Replayed)))?)
            })
            .await
    }

    /// The next letters, whole; none when all have been read.
    pub async fn page(&mut self, query: &Query) -> Result<Option<Vec<DeadLetter>>, Error> {
        let page = self.take_page();
        let (Some(first), Some(last)) = (page.first(), page.last()) else { return Ok(None) };
        let place = |chosen: &Chosen| chosen.key.1;
        let low = page.iter().map(place).min().unwrap_or_default();
        let high = page.iter().map(place).max().unwrap_or_default();
        let (from, to) = (first.received_at_us, last.received_at_us);
        let answer = self.ask(query, |letters| {
            Ok(letters
                .filter(col("date").between(date(from), date(to)))?
                .filter(col("received_at").between(time(from), time(to)))?
                .filter(col("position").between(lit(low), lit(high)))?)
        });
        let places: HashMap<&Key, usize> = page.iter().map(|chosen| &chosen.key).zip(0..).collect();
        let mut letters: Vec<Option<DeadLetter>> = page.iter().map(|_| None).collect();
        let mut batches = answer.await?.into_batches();
        while let Some(rows) = batches.try_next().await? {
            for letter in from_batch(&rows)? {
                let key = (letter.source.as_str().into(), letter.position, letter.index);
                if let Some(place) = places.get(&key) {
                    letters[*place] = Some(letter);
                }
            }
        }
        Ok(Some(letters.into_iter().flatten().collect()))
    }

    fn take_page(&mut self) -> Vec<Chosen> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        while page.len() < PAGE_LETTERS_MAX && bytes < PAGE_BYTES_MAX {
            let Some(chosen) = self.left.pop() else { break };
            bytes += chosen.payload_bytes;
            page.push(chosen);
        }
        page
    }
}

/// The letters that replays have settled; 64 bytes each.
async fn settled(query: &Query) -> Result<HashSet<Key>, Error> {
    let answer = query
        .ask_table(&Grant::All, Rows::LakeAndTail, TABLE, |letters| {
            Ok(letters.filter(col("reason").eq(text(Reason::Replayed)))?.select_columns(&COLUMNS)?)
        })
        .await?;
    let (mut sources, mut keys) = (HashMap::new(), HashSet::new());
    let mut batches = answer.into_batches();
    while let Some(rows) = batches.try_next().await? {
        keys.extend(chosen(&rows, &mut sources).into_iter().map(|(chosen, _)| chosen.key));
    }
    Ok(keys)
}

/// Rows of [`COLUMNS`], with their reasons; each source's name is kept once.
fn chosen(rows: &RecordBatch, sources: &mut HashMap<String, Arc<str>>) -> Vec<(Chosen, String)> {
    let received_at = rows.column(0).as_primitive::<TimestampMicrosecondType>();
    let (source, reason) = (rows.column(1).as_string_view(), rows.column(4).as_string_view());
    let long = |column: usize| rows.column(column).as_primitive::<Int64Type>();
    let (positions, indexes, lengths) = (long(2), long(3), long(5));
    let row = |row: usize| {
        let name = source.value(row);
        if !sources.contains_key(name) {
            sources.insert(name.to_owned(), name.into());
        }
        let key = (sources[name].clone(), positions.value(row), indexes.value(row));
        let received_at_us = received_at.value(row);
        (Chosen { received_at_us, key, payload_bytes: lengths.value(row) }, reason.value(row).to_owned())
    };
    (0..rows.num_rows()).map(row).collect()
}

fn text(reason: Reason) -> Expr {
    lit(ScalarValue::Utf8View(Some(reason.as_str().to_owned())))
}

fn time(time_us: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(time_us), Some("UTC".into())))
}

fn date(time_us: i64) -> Expr {
    lit(ScalarValue::Date32(Some(date_of(time_us))))
}
