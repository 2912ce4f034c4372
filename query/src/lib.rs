//! The reader
