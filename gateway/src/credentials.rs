//! Credentials of an admitted client, with which another process can authorize it again.

use policy::Destination;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};

use crate::client_identity::Identity;
use crate::snapshot::{GatewaySnapshot, Permit};

/// Message with a client's certificate chain and its destination, as one process sends it to
/// another. The certificates are DER in hexadecimal, the leaf first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialsMessage {
    chain: Vec<String>,
    sni: Option<String>,
    port: u16,
}

/// Credentials of a client whose connection is held by another process, read from a
/// [`CredentialsMessage`].
#[derive(Debug)]
pub(crate) struct ClientCredentials {
    chain: Vec<CertificateDer<'static>>,
    identity: Identity,
    destination: Destination,
}

impl CredentialsMessage {
    /// Describes the credentials that a [`Permit`] was granted for. `None` for an empty chain.
    pub(crate) fn of(permit: &Permit, chain: &[CertificateDer<'_>]) -> Option<Self> {
        Self::new(permit.destination(), chain)
    }

    fn new(destination: &Destination, chain: &[CertificateDer<'_>]) -> Option<Self> {
        let chain: Vec<String> = chain.iter().map(|der| hexadecimal(der)).collect();
        (!chain.is_empty()).then(|| Self {
            chain,
            sni: destination.sni.clone(),
            port: destination.port,
        })
    }

    /// Decodes the message. `None` if it is not hexadecimal or its leaf names no client: no process
    /// can have admitted a client with it.
    pub(crate) fn read(&self) -> Option<ClientCredentials> {
        let chain: Option<Vec<_>> = self.chain.iter().map(|text| bytes(text)).collect();
        let chain: Vec<_> = chain?.into_iter().map(CertificateDer::from).collect();
        Some(ClientCredentials {
            identity: Identity::of(chain.first()?).ok()?,
            destination: Destination {
                sni: self.sni.clone(),
                port: self.port,
            },
            chain,
        })
    }
}

impl ClientCredentials {
    /// Returns true if the policy grants the client this group now, and its certificate chain is
    /// trusted as far as it is to be checked.
    pub(crate) fn are_valid(
        &self,
        snapshot: &GatewaySnapshot,
        group: &str,
        check: PermitCheck,
    ) -> bool {
        is_trusted(&self.chain, snapshot, check)
            && is_granted(&self.identity, &self.destination, group, snapshot)
    }

    /// Encodes the credentials for another process.
    pub(crate) fn to_message(&self) -> Option<CredentialsMessage> {
        CredentialsMessage::new(&self.destination, &self.chain)
    }
}

/// Extent of a check of a connection's permit: with or without its certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermitCheck {
    /// The policy alone: authorities and revocation lists are the same as when the permit was
    /// given.
    PolicyOnly,
    /// The certificate chain is verified again, as of a time. It costs a signature verification for
    /// each certificate.
    WithChain(UnixTime),
}

/// Returns true if the chain is trusted; also if it is not to be checked, or has no certificate. An
/// expired revocation list alone does not make it untrusted (`ClientTrust::still_holds`).
pub(crate) fn is_trusted(
    chain: &[CertificateDer<'_>],
    snapshot: &GatewaySnapshot,
    check: PermitCheck,
) -> bool {
    let (PermitCheck::WithChain(now), [leaf, intermediates @ ..]) = (check, chain) else {
        return true;
    };
    let trust = snapshot.tls().trust();
    trust.still_holds(leaf, intermediates, now)
}

/// Returns true if the policy grants the client this group at this destination.
pub(crate) fn is_granted(
    identity: &Identity,
    destination: &Destination,
    group: &str,
    snapshot: &GatewaySnapshot,
) -> bool {
    let permit = snapshot.authorize(identity.clone(), destination);
    permit.is_ok_and(|permit| permit.group().name.as_ref() == group)
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    let both = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    both.collect()
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let value = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    let read = pairs
        .iter()
        .map(|[high, low]| Some(value(*high)? << 4 | value(*low)?));
    rest.is_empty().then(|| read.collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_were_written_and_nothing_else_is() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(bytes(&hexadecimal(&all)), Some(all));
        for text in ["0", "0g", "00 ", "\u{e9}"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
