//! The progress of a client's verification: what it claims, and what it has proven.

use rustls_pki_types::UnixTime;
use tls::IdentifiedClient;
use tls::ticket::TicketContents;

use crate::client_identity::Identity;
use crate::client_refusal::ClientRefusal;
use crate::snapshot::Permit;

/// Progress of the verification of a connection's client.
#[derive(Debug, Default)]
pub(super) enum VerifierState {
    #[default]
    Unknown,
    /// The client claims an identity: by a certificate with a trusted chain, or by a ticket that
    /// was sealed here. Nothing is decided until it has proven the claim.
    Claimed(ClaimedClient),
    /// The client has proven its identity and is authorized.
    Allowed {
        permit: Permit,
        proof: ProofKind,
        ticket: TicketContents,
    },
    Refused(ClientRefusal),
}

/// Identity that a client claims, with the kind of its proof.
#[derive(Debug)]
pub(super) struct ClaimedClient {
    pub(super) client: IdentifiedClient,
    pub(super) identity: Identity,
    pub(super) proof: ProofKind,
    /// Time at which the client proved that it has the certificate's key: now if this handshake
    /// succeeds, or before it got its ticket.
    pub(super) proven: UnixTime,
}

/// Kind of a client's proof of its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProofKind {
    Certificate,
    Ticket,
}
