//! The sizes and times that devices and servers agree on.

/// Longest tenant, device or site id, in characters.
pub const ID_LEN_MAX: usize = 64;

/// Longest domain name, in characters.
pub const DOMAIN_LEN_MAX: usize = 48;

/// Longest topic: `city/v1/` and three names with two slashes between them.
pub const TOPIC_LEN_MAX: usize = 8 + ID_LEN_MAX + 1 + DOMAIN_LEN_MAX + 1 + ID_LEN_MAX;

/// Largest payload that is accepted: a day of 10 s fixes (8,640 x 26 bytes) still fits into one.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// What is kept of a payload that is larger than [`PAYLOAD_BYTES_MAX`], beside its length and hash.
pub const KEPT_OF_TOO_LARGE_BYTES: usize = 4 * 1024;

/// A reading may be this far ahead of its arrival; beyond it the device's clock is wrong.
pub const CLOCK_AHEAD_US_MAX: i64 = 5 * 60 * 1_000_000;

/// 2000-01-01T00:00:00Z: no reading is older; a clock that says so was never set.
pub const TIME_US_MIN: i64 = 946_684_800_000_000;
