//! The city
