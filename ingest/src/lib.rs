//! The writer
