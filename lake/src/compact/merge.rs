//! Sorted runs become one: the least of their next rows goes first, as long as there are any.
//!
//! Rows are compared by the sort columns in arrow's row format, where texts and times of a row are one
//! string of bytes. Where a run's next rows all come before those of the others, they are taken together.

use std::{cmp::Reverse, collections::BinaryHeap};

use arrow::{
    array::{ArrayRef, RecordBatch},
    compute::interleave_record_batch,
    datatypes::SchemaRef,
    row::{OwnedRow, RowConverter, Rows, SortField},
};
use futures::{StreamExt, stream::BoxStream};

use crate::{
    Error,
    layout::{PAGE_ROWS, SORT},
};

/// A run as it is read.
pub type Run = BoxStream<'static, Result<RecordBatch, Error>>;

/// The runs of a merge, and what of them is not written yet.
pub struct Merge {
    /// The columns that rows are compared by.
    sort: Vec<usize>,
    converter: RowConverter,
    sources: Vec<Source>,
    /// The next row of each source that has one.
    heads: BinaryHeap<Reverse<(OwnedRow, usize)>>,
    batches: Vec<RecordBatch>,
    /// Rows to write next: which of the batches, which row of it.
    order: Vec<(usize, usize)>,
}

/// A run, read as far as one batch.
struct Source {
    run: Run,
    keys: Option<Rows>,
    /// Its batch among those of the merge.
    batch: usize,
    next: usize,
}

impl Merge {
    /// Begins to read runs whose rows are in these columns.
    pub async fn of(columns: &SchemaRef, runs: Vec<Run>) -> Result<Merge, Error> {
        let sort: Vec<usize> = SORT.iter().filter_map(|name| columns.index_of(name).ok()).collect();
        let fields = sort.iter().map(|column| SortField::new(columns.field(*column).data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        let sources = runs.into_iter().map(|run| Source { run, keys: None, batch: 0, next: 0 });
        let mut merge = Merge {
            sort,
            converter,
            sources: sources.collect(),
            heads: BinaryHeap::new(),
            batches: Vec::new(),
            order: Vec::new(),
        };
        for source in 0..merge.sources.len() {
            merge.refill(source).await?;
        }
        Ok(merge)
    }

    /// The next rows, at least a page of them but at the end; none when all have been given.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        while self.order.len() < PAGE_ROWS {
            let Some(Reverse((_, source))) = self.heads.pop() else { break };
            if self.take(source) {
                self.heads.push(Reverse((self.sources[source].head(), source)));
            } else {
                self.refill(source).await?;
            }
        }
        if self.order.is_empty() {
            return Ok(None);
        }
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let rows = interleave_record_batch(&batches, &self.order)?;
        self.order.clear();
        self.forget_read();
        Ok(Some(rows))
    }

    /// Takes the rows of a source that come before all others; says whether its batch has more.
    fn take(&mut self, source: usize) -> bool {
        let source = &mut self.sources[source];
        let Some(keys) = &source.keys else { return false };
        let first = source.next;
        source.next = match self.heads.peek() {
            None => keys.num_rows(),
            // The least of all, so at least one.
            Some(Reverse((limit, _))) => end_of(keys, first + 1, limit),
        };
        self.order.extend((first..source.next).map(|row| (source.batch, row)));
        source.next < keys.num_rows()
    }

    /// Reads the next batch of a source, if there is one.
    async fn refill(&mut self, number: usize) -> Result<(), Error> {
        let source = &mut self.sources[number];
        source.keys = None;
        while let Some(rows) = source.run.next().await.transpose()? {
            if rows.num_rows() == 0 {
                continue;
            }
            let columns: Vec<ArrayRef> =
                self.sort.iter().map(|column| rows.column(*column).clone()).collect();
            source.keys = Some(self.converter.convert_columns(&columns)?);
            (source.batch, source.next) = (self.batches.len(), 0);
            self.batches.push(rows);
            self.heads.push(Reverse((source.head(), number)));
            break;
        }
        Ok(())
    }

    /// Lets go of batches that no source reads any more.
    fn forget_read(&mut self) {
        let mut kept = Vec::new();
        for source in self.sources.iter_mut().filter(|source| source.keys.is_some()) {
            kept.push(self.batches[source.batch].clone());
            source.batch = kept.len() - 1;
        }
        self.batches = kept;
    }
}

impl Source {
    /// The key of its next row; called where it has one.
    fn head(&self) -> OwnedRow {
        self.keys.as_ref().expect("a source with a next row has keys").row(self.next).owned()
    }
}

/// The first row from `from` on whose key is greater than `limit`; keys are sorted. Looks ahead in steps that
/// double, as mostly few or all rows come before.
fn end_of(keys: &Rows, from: usize, limit: &OwnedRow) -> usize {
    let within = |row: usize| keys.row(row) <= limit.row();
    let (mut low, mut step) = (from, 1);
    while low + step <= keys.num_rows() && within(low + step - 1) {
        low += step;
        step *= 2;
    }
    let mut high = (low + step).min(keys.num_rows());
    while low < high {
        let middle = low + (high - low) / 2;
        if within(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests;
