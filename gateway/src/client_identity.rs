//! The identity of a client: its name by the policy's rules, and the certificate that proves it.

use rustls_pki_types::CertificateDer;
use thiserror::Error;

use policy::{ClientName, ClientNameError};
use tls::identity::{CertificateIdentity, Fingerprint, IdentityError};

/// Identity of a client: the [`ClientName`] in its verified certificate, and the certificate's
/// [`Fingerprint`].
#[derive(Debug, Clone)]
pub struct Identity {
    name: ClientName,
    fingerprint: Fingerprint,
}

/// Reason why a verified certificate does not identify a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ClientIdentityError {
    /// The certificate does not name exactly one client in exactly one way.
    #[error(transparent)]
    Certificate(#[from] IdentityError),
    /// The common name is not a name that the policy can have.
    #[error(transparent)]
    Name(#[from] ClientNameError),
}

impl Identity {
    /// Reads the identity from a certificate whose chain was verified.
    ///
    /// # Errors
    ///
    /// The certificate does not identify a client.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, ClientIdentityError> {
        Ok(Self::named(&CertificateIdentity::of(certificate)?)?)
    }

    /// Creates the identity that a certificate names.
    ///
    /// # Errors
    ///
    /// The common name is not a valid name of a client.
    pub fn named(certificate: &CertificateIdentity) -> Result<Self, ClientNameError> {
        Ok(Self {
            name: ClientName::new(certificate.common_name())?,
            fingerprint: certificate.fingerprint(),
        })
    }

    /// Returns the client's name.
    pub fn name(&self) -> &ClientName {
        &self.name
    }

    /// Returns the certificate's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

#[cfg(test)]
mod small;
