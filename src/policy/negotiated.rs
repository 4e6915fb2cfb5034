//! What of a session is told apart where sessions are counted.
//!
//! Must not: hold anything that a peer could make up. A version or a number of bits that nobody knows is clamped
//! by whoever counts.

use super::facts::{Facts, TlsState};
use super::requirement::TlsVersion;

/// What was negotiated, as far as the MTA told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Whether there is TLS.
    pub state: TlsState,
    /// Its version, if it is one.
    pub version: Option<TlsVersion>,
    /// Its key bits; 0 in the clear.
    pub bits: Option<u16>,
}

impl Negotiated {
    /// Of these facts.
    pub fn of(facts: &Facts<'_>) -> Self {
        Self {
            state: facts.tls.state,
            version: facts.tls.version.as_deref().and_then(TlsVersion::from_mta),
            bits: facts.tls.cipher_bits,
        }
    }
}
