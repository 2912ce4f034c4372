//! What comes over a wire, byte by byte.

/// A receiver that keeps what came until it is fetched.
pub trait Serial {
    /// Moves what came into `buf`, as much as fits, without waiting; answers how much.
    fn read(&mut self, buf: &mut [u8]) -> usize;
}
