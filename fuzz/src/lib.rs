//! What must hold for any bytes from outside: one function for each fuzz target.
//!
//! - [`words`] - topics and schemas
//! - [`payload`] - Avro and JSON readings: the cheap check, and then the decoder
//! - [`segment`] and [`journal`] - what a journal makes of its files, against [`model`]
//! - [`seeds`] - what the targets begin with
//!
//! `.ci/fuzz` runs each target for half a minute; `.ci/fuzz 300 avro` runs one for longer. The city's
//! tests hold every seed against its target too, with the stable compiler. An input that broke something
//! is kept in `seeds/TARGET/found-…` with the fix.

mod journal;
mod model;
mod payload;
pub mod seeds;
mod segment;
mod words;

pub use journal::journal;
pub use payload::{avro, json};
pub use segment::segment;
pub use words::{schema, topic};

/// What a target does with its bytes; it panics where something does not hold.
pub type Check = fn(&[u8]);

/// The targets that need nothing but this library, by name.
pub const TARGETS: [(&str, Check); 6] = [
    ("topic", topic),
    ("avro", avro),
    ("json", json),
    ("schema", schema),
    ("segment", segment),
    ("journal", journal),
];
