//! Numbers for TLS, which on the emulated board are no secret.

use rand_core::{CryptoRng, RngCore};
use zeugma_firmware::random::Random;

/// Where secrets come from. The emulator has no source of noise: whoever knows the device's names and how often it
/// was started can guess these, so for the emulated board no claim of security is made. A board for the field gives
/// `Tls` its own true random numbers instead.
pub struct Guessable(pub Random);

impl CryptoRng for Guessable {}

impl RngCore for Guessable {
    fn next_u32(&mut self) -> u32 {
        self.0.bits() as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0.bits()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.0.bits().to_le_bytes()[..part.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}
