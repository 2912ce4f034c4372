//! What comes over a wire, byte by byte.

/// A receiver that keeps what came until it is fetched.
pub trait Serial {
    /// The next byte that came, if one did; never waits.
    fn next(&mut self) -> Option<u8>;
}
