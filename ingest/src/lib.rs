//! The writer: from MQTT to the lake, one step a file, in this order.
//!
//! ```text
//! door ───────┐                                              ┌─▶ tail ─▶ committer ─▶ lake
//!             ├─▶ journal (append, sync) ─▶ PUBACK ─▶ accept ─┤                │
//! subscriber ─┘                                              └─▶ dead letters └─▶ release, truncate
//! ```

pub mod door;
pub mod metrics;
pub mod subscriber;

use std::sync::Arc;

pub use metrics::Metrics;

/// The time, microseconds since 1970; tests and simulations bring their own.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;
