//! TLS 1.3 with a key that device and broker share (RFC 8446, section 2.2), around any way to the broker.
//!
//! A key of 16 bytes and more that nobody else has proves each to the other; there is no certificate to check, no
//! clock to check it by, and both fit a board with 64 KB of RAM. `embedded-tls` does the work.

use embedded_io_async::ErrorKind;
use embedded_tls::{
    Aes128GcmSha256, CertificateRef, CertificateVerifyRef, CryptoProvider, CryptoRngCore, MaxFragmentLength,
    Sha256, TLS_RECORD_OVERHEAD, TlsConfig, TlsConnection, TlsContext, TlsError, TlsVerifier,
};

use crate::{
    board::{Dial, Lost},
    settings::Key,
    whole::WholeRecords,
};

/// What one record carries, both ways; agreed with the broker (RFC 6066, section 4). A full batch takes three.
const FRAGMENT_BYTES_MAX: usize = 512;

/// Head, fragment, and what sealing may add to it (RFC 8446, section 5.2).
const INCOMING_BYTES_MAX: usize = 5 + FRAGMENT_BYTES_MAX + 256;

/// The RAM of a TLS connection: the record that comes in, the one that is opened, the one that is made.
pub struct Buffers {
    incoming: [u8; INCOMING_BYTES_MAX],
    opened: [u8; INCOMING_BYTES_MAX],
    made: [u8; FRAGMENT_BYTES_MAX + TLS_RECORD_OVERHEAD],
}

impl Buffers {
    /// Empty.
    pub const fn new() -> Buffers {
        Buffers {
            incoming: [0; INCOMING_BYTES_MAX],
            opened: [0; INCOMING_BYTES_MAX],
            made: [0; FRAGMENT_BYTES_MAX + TLS_RECORD_OVERHEAD],
        }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// `way`, under TLS.
pub struct Tls<'k, W, R> {
    way: W,
    key: &'k Key,
    random: R,
    buffers: &'k mut Buffers,
}

impl<'k, W: Dial, R: CryptoRngCore> Tls<'k, W, R> {
    /// To a broker that holds `key` too. The secrets of each connection come from `random`.
    pub fn new(way: W, key: &'k Key, random: R, buffers: &'k mut Buffers) -> Self {
        Tls { way, key, random, buffers }
    }
}

impl<W: Dial, R: CryptoRngCore> Dial for Tls<'_, W, R> {
    type Io<'a>
        = TlsConnection<'a, WholeRecords<'a, W::Io<'a>>, Aes128GcmSha256>
    where
        Self: 'a;

    async fn dial(&mut self) -> Result<Self::Io<'_>, Lost> {
        let Buffers { incoming, opened, made } = &mut *self.buffers;
        let records = WholeRecords::new(self.way.dial().await?, incoming);
        let mut stream = TlsConnection::new(records, opened, made);
        let identities = [self.key.identity.as_bytes()];
        let config = TlsConfig::new()
            .with_psk(&self.key.secret, &identities)
            .with_max_fragment_length(MaxFragmentLength::Bits9);
        stream.open(TlsContext::new(&config, KeyOnly(&mut self.random))).await.map_err(lost)?;
        Ok(stream)
    }
}

fn lost(error: TlsError) -> Lost {
    match error {
        TlsError::CryptoError | TlsError::InvalidSignature | TlsError::HandshakeAborted(..) => {
            Lost::Untrusted
        }
        TlsError::IoError => Lost::Closed,
        TlsError::Io(kind) if !matches!(kind, ErrorKind::OutOfMemory | ErrorKind::InvalidData) => {
            Lost::Closed
        }
        // No TLS 1.3 that this client knows.
        _ => Lost::Protocol,
    }
}

/// The broker proves itself by the key, never by a certificate.
struct KeyOnly<R>(R);

impl<R: CryptoRngCore> CryptoProvider for KeyOnly<R> {
    type CipherSuite = Aes128GcmSha256;
    type Signature = [u8; 0];

    fn rng(&mut self) -> impl CryptoRngCore {
        &mut self.0
    }

    fn verifier(&mut self) -> Result<&mut impl TlsVerifier<Aes128GcmSha256>, TlsError> {
        Ok(self)
    }
}

impl<R> TlsVerifier<Aes128GcmSha256> for KeyOnly<R> {
    fn set_hostname_verification(&mut self, _hostname: &str) -> Result<(), TlsError> {
        Ok(())
    }

    fn verify_certificate(&mut self, _transcript: &Sha256, _: CertificateRef<'_>) -> Result<(), TlsError> {
        Err(TlsError::InvalidCertificate)
    }

    fn verify_signature(&mut self, _verify: CertificateVerifyRef<'_>) -> Result<(), TlsError> {
        Err(TlsError::InvalidSignature)
    }
}
