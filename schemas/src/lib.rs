//! The words of a city: what a reading of each domain holds, how it is addressed, and how its bytes look.
//!
//! Without features this is the device's side, `no_std` and without allocation:
//!
//! - [`limits`] - the sizes and times that device and server agree on
//! - [`id`] - what a tenant, domain or device may be called
//! - [`topic`] - `city/v1/{tenant}/{domain}/{device}`
//! - [`avro`] - the Avro binary encoding and its single-object frame
//! - [`json`] - the same reading as a JSON object
//! - [`domains`] - one plain struct for each of the five domains, which names its fields to either encoding
//!
//! With feature `std` it is the server's side too, in the order in which a payload passes:
//!
//! - [`schema`] - an `.avsc` file and the fields it declares
//! - [`domain`] - every version of one domain's schema; versions only grow
//! - [`payload`] - bytes checked reading by reading, so that a bad one never spoils its neighbours
//! - [`batch`] - checked readings as Arrow record batches
//! - [`dead_letter`] - why a payload or reading was refused, and the table that keeps it

#![cfg_attr(not(feature = "std"), no_std)]

pub mod avro;
pub mod domains;
pub mod id;
pub mod json;
pub mod limits;
pub mod topic;

#[cfg(feature = "std")]
pub mod batch;
#[cfg(feature = "std")]
pub mod dead_letter;
#[cfg(feature = "std")]
pub mod domain;
#[cfg(feature = "std")]
pub mod payload;
#[cfg(feature = "std")]
pub mod schema;
