//! The refusal of a client during its handshake, and the identity in its certificate.

use tls::claimed_certificate::ClaimedCertificate;

use crate::client_identity::Identity;
use crate::rejection::Rejection;

/// Refusal of a client by the verifier, and the identity in its certificate.
#[derive(Debug)]
pub struct ClientRefusal {
    /// Reason for the refusal; `None` if it was not the verifier that refused.
    pub rejection: Option<Rejection>,
    /// Identity of the client, proven or claimed.
    pub client: Option<NamedClient>,
}

/// Identity in a certificate, with or without proof.
#[derive(Debug, Clone)]
pub enum NamedClient {
    /// The client presented a certificate that is the reason of its refusal: its chain is not
    /// trusted, or it names no client.
    Distrusted(Box<DistrustedClient>),
    /// The client presented the certificate, or a ticket for it, and has not proven that it has the
    /// key.
    Claimed(Identity),
    /// The client has proven that it has the certificate's key, or the secret of a ticket for it.
    Proven(Identity),
}

/// Client whose certificate is not accepted.
#[derive(Debug, Clone)]
pub struct DistrustedClient {
    /// Identity in the certificate, if there is one.
    pub identity: Option<Identity>,
    /// Claims of the certificate.
    pub certificate: ClaimedCertificate,
}
