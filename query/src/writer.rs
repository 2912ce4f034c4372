//! What an operator may have the writer do, as the program hands it in: the reader knows no writer.

use std::sync::Arc;

use futures::{future::BoxFuture, stream::BoxStream};
use zeugma_lake::{compact::Progress, erasure::Erasing, gone::Subject, retention::Rule};
use zeugma_schemas::dead_letter::{DeadLetter, Replayed};

/// A writer's ways in, each of which answers with a sentence where it does not do what it was asked.
#[derive(Clone)]
pub struct Writer {
    /// Puts dead letters through acceptance again.
    pub replay: Replay,
    /// Compacts a table, or all, to one run for each span of dates.
    pub compact: Compact,
    /// Erases a tenant or device, and blocks it where that is wanted.
    pub erase: Erase,
    /// Blocks a tenant or device no more; says whether it was.
    pub unblock: Arc<dyn Fn(Subject) -> Done<bool> + Send + Sync>,
    /// Sets a rule of retention.
    pub set_rule: Arc<dyn Fn(Rule) -> Done<()> + Send + Sync>,
    /// Drops the rule for exactly this tenant and table; says whether there was one.
    pub unset_rule: UnsetRule,
}

/// What comes of it.
pub type Done<T> = BoxFuture<'static, Result<T, String>>;

/// Reports until it is done or has failed.
pub type Reports<T> = BoxStream<'static, Result<T, String>>;

/// Drops the rule for exactly this tenant and table.
pub type UnsetRule = Arc<dyn Fn(Option<String>, Option<String>) -> Done<bool> + Send + Sync>;

/// Puts dead letters through acceptance again, in this order, and answers what became of them once all are
/// decided.
pub type Replay = Arc<dyn Fn(Vec<DeadLetter>) -> Done<Replayed> + Send + Sync>;

/// Compacts a table, or all; answers reports, or why it is not begun.
pub type Compact = Arc<dyn Fn(Option<String>) -> Result<Reports<Progress>, String> + Send + Sync>;

/// Erases, and blocks where that is wanted; answers reports, or why it is not begun.
pub type Erase = Arc<dyn Fn(Subject, bool) -> Result<Reports<Erasing>, String> + Send + Sync>;
