//! Every reason to reject a client, in the order in which they can arise.

use std::io;

use lb::{ClientDenied, DialError};
use policy::DenyReason;
use thiserror::Error;
use tls::IdentifyError;
use tls::first_bytes::FirstBytes;
use tls::handshake::HandshakeFailure;
use tls::hello_limits::HelloExcess;
use tls::identity::IdentityError;
use tls::tls_messages;
use tls::trust::UntrustedChain;

use crate::client_identity::ClientIdentityError;

/// Reason for rejecting a client before any byte was relayed.
///
/// The client gets at most a TLS alert; the access record has the code of [`Rejection::reason`] and
/// this description.
#[derive(Debug, Error)]
pub enum Rejection {
    /// The gateway has its maximum number of connections.
    #[error("the gateway's limit of connections is reached")]
    GatewayFull,
    /// All file descriptors for clients are in use.
    #[error("the open-file limit is reached")]
    DescriptorsFull,
    /// The memory limit is reached.
    #[error("too little memory is left for another client")]
    MemoryFull,
    /// The connection was silent, and was closed in favour of another.
    #[error(
        "closed to make room for others: it was the oldest silent connection of the source that \
         had most"
    )]
    SilentEvicted,
    /// The maximum number of handshakes is in progress.
    #[error("too many handshakes are in flight")]
    HandshakesFull,
    /// The maximum number of handshakes of this source is in progress.
    #[error("too many handshakes of this source are in flight")]
    SourceHandshakesFull,
    /// The handshake was aborted in favour of one of another source.
    #[error(
        "closed to make room for others: it was the oldest handshake of the source that had most"
    )]
    HandshakeEvicted,
    /// The handshake did not complete in time; the value classifies the bytes received.
    #[error("{}", late(*.0))]
    HandshakeTimeout(FirstBytes),
    /// The client closed the connection before or during its handshake; the value classifies the
    /// bytes received.
    #[error("{}", abandoned(*.0))]
    HandshakeAbandoned(FirstBytes),
    /// The client did not begin with TLS.
    #[error("the client does not begin with TLS: {0}")]
    NotTls(FirstBytes),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {}", tls_messages::tls(.0))]
    Tls(rustls::Error),
    /// The client exceeded a limit of the handshake.
    #[error("the TLS handshake failed: {0}")]
    Excess(HelloExcess),
    /// The client presented no certificate.
    #[error("the client sent no certificate")]
    NoCertificate,
    /// The client presented a certificate and did not prove that it has the key.
    #[error("the client did not prove that it has the private key of its certificate")]
    KeyNotProven,
    /// The certificate's chain is not trusted.
    #[error(transparent)]
    Untrusted(UntrustedChain),
    /// The certificate is trusted but does not identify a client.
    #[error(transparent)]
    Identity(ClientIdentityError),
    /// The policy denies access.
    #[error("{}", denial(*.0))]
    Policy(DenyReason),
    /// The client offers application protocols, but none of the group's.
    #[error("the client offers no application protocol (ALPN) of the group's")]
    Protocol,
    /// The client's own limits are reached.
    #[error(transparent)]
    Limited(ClientDenied),
    /// The client closed the connection while it waited for one of its others to end.
    #[error("the client disconnected while it waited for one of its connections to end")]
    LeftWaiting,
    /// No connection to an upstream of the group was possible.
    #[error(transparent)]
    Dial(DialError),
    /// The permit was revoked between the handshake and the relay.
    #[error("the permit was revoked before the first byte")]
    Revoked,
    /// The upstream closed the connection before it accepted the PROXY header.
    #[error("cannot send the PROXY header to the upstream: {0}")]
    Header(io::Error),
}

impl Rejection {
    /// Returns true if the rejection counts towards a ban of the source: only for what an honest
    /// client does not do.
    pub fn counts_towards_ban(&self) -> bool {
        match self {
            // A balancer's probe connects and leaves.
            Self::HandshakeAbandoned(FirstBytes::Nothing) => false,
            // They cost time and memory without a result.
            Self::HandshakeTimeout(_)
            | Self::HandshakeAbandoned(_)
            | Self::NotTls(_)
            | Self::Tls(_)
            | Self::Excess(_) => true,
            // The client has no certificate that is valid here.
            Self::NoCertificate | Self::KeyNotProven | Self::Untrusted(_) | Self::Identity(_) => {
                true
            }
            // It proved a name that the policy does not know, or does not know any longer.
            Self::Policy(DenyReason::UnknownClient) => true,
            // It proved its identity, but asked for a wrong destination or protocol.
            Self::Policy(DenyReason::UnknownName | DenyReason::NoName | DenyReason::NotGranted)
            | Self::Protocol => false,
            // The gateway has no room; others may be the cause.
            Self::GatewayFull
            | Self::DescriptorsFull
            | Self::MemoryFull
            | Self::SilentEvicted
            | Self::HandshakesFull
            | Self::SourceHandshakesFull
            | Self::HandshakeEvicted => false,
            // Its handshake is complete; its own limits or a change of the policy are the cause.
            Self::Limited(_) | Self::LeftWaiting | Self::Revoked => false,
            // An upstream is the cause.
            Self::Dial(_) | Self::Header(_) => false,
        }
    }

    /// Returns the reason's code in the access record, from a closed list.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::GatewayFull => "gateway_full",
            Self::DescriptorsFull => "descriptors_full",
            Self::MemoryFull => "memory_full",
            Self::SilentEvicted => "silent_evicted",
            Self::HandshakesFull => "handshakes_full",
            Self::SourceHandshakesFull => "source_handshakes_full",
            Self::HandshakeEvicted => "handshake_evicted",
            Self::HandshakeTimeout(_) => "handshake_timeout",
            Self::HandshakeAbandoned(_) => "handshake_abandoned",
            Self::NotTls(_) => "not_tls",
            Self::Tls(_) | Self::Excess(_) => "tls_failed",
            Self::NoCertificate => "no_certificate",
            Self::KeyNotProven => "key_not_proven",
            Self::Untrusted(untrusted) => untrusted.reason(),
            Self::Identity(ClientIdentityError::Certificate(
                IdentityError::Authority | IdentityError::NotForClients,
            )) => "certificate_purpose",
            Self::Identity(_) => "bad_name",
            Self::Policy(DenyReason::UnknownClient) => "unknown_client",
            Self::Policy(DenyReason::UnknownName) => "unknown_sni",
            Self::Policy(DenyReason::NoName) => "no_sni",
            Self::Policy(DenyReason::NotGranted) => "not_granted",
            Self::Protocol => "alpn_mismatch",
            Self::Limited(ClientDenied::ClientConnections { .. }) => "client_connections",
            Self::Limited(ClientDenied::ClientRate { .. }) => "client_rate",
            Self::LeftWaiting => "client_left",
            Self::Dial(DialError::GroupFull { .. }) => "group_connections",
            Self::Dial(DialError::NoneHealthy) => "none_healthy",
            Self::Dial(DialError::AllFailed { .. }) => "dial_failed",
            Self::Revoked => "revoked",
            Self::Header(_) => "dial_failed",
        }
    }
}

impl From<IdentifyError> for Rejection {
    fn from(error: IdentifyError) -> Self {
        match error {
            IdentifyError::Untrusted(untrusted) => Self::Untrusted(untrusted),
            IdentifyError::Identity(error) => Self::Identity(error.into()),
        }
    }
}

impl From<HandshakeFailure> for Rejection {
    fn from(failure: HandshakeFailure) -> Self {
        match failure {
            HandshakeFailure::SilentEvicted => Self::SilentEvicted,
            HandshakeFailure::Evicted => Self::HandshakeEvicted,
            HandshakeFailure::Late(first) => Self::HandshakeTimeout(first),
            HandshakeFailure::Abandoned(first) => Self::HandshakeAbandoned(first),
            HandshakeFailure::NotTls(first) => Self::NotTls(first),
            HandshakeFailure::Tls(rustls::Error::NoCertificatesPresented) => Self::NoCertificate,
            HandshakeFailure::Tls(error) => Self::Tls(error),
            HandshakeFailure::Excess(excess) => Self::Excess(excess),
        }
    }
}

fn late(first: FirstBytes) -> String {
    if first.is_tls() {
        "the TLS handshake took too long".to_owned()
    } else {
        format!("the client did not begin TLS in time: {first}")
    }
}

fn abandoned(first: FirstBytes) -> String {
    if first == FirstBytes::Nothing {
        "the client disconnected before it sent a byte".to_owned()
    } else if first.is_tls() {
        "the client disconnected during the handshake".to_owned()
    } else {
        format!("the client disconnected before TLS began: {first}")
    }
}

fn denial(reason: DenyReason) -> &'static str {
    match reason {
        DenyReason::UnknownClient => "the client is not in the policy",
        DenyReason::UnknownName => "no group has this name",
        DenyReason::NoName => "the client sent no name (SNI), and no group has the port",
        DenyReason::NotGranted => "the client is not granted the group",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_honest_client_does_not_do_counts_towards_a_ban() {
        let header = || Rejection::Header(io::ErrorKind::BrokenPipe.into());
        let connections = ClientDenied::ClientConnections {
            limit: lb::Limit::Unlimited,
        };
        for (rejection, counts) in [
            (Rejection::GatewayFull, false),
            (Rejection::DescriptorsFull, false),
            (Rejection::MemoryFull, false),
            (Rejection::SilentEvicted, false),
            (Rejection::HandshakesFull, false),
            (Rejection::SourceHandshakesFull, false),
            (Rejection::HandshakeEvicted, false),
            (Rejection::HandshakeTimeout(FirstBytes::Nothing), true),
            (Rejection::HandshakeTimeout(FirstBytes::Tls), true),
            (Rejection::HandshakeAbandoned(FirstBytes::Nothing), false),
            (Rejection::HandshakeAbandoned(FirstBytes::Tls), true),
            (Rejection::NotTls(FirstBytes::Http), true),
            (Rejection::Tls(rustls::Error::DecryptError), true),
            (Rejection::NoCertificate, true),
            (Rejection::KeyNotProven, true),
            (
                Rejection::Identity(IdentityError::NotForClients.into()),
                true,
            ),
            (Rejection::Policy(DenyReason::UnknownClient), true),
            (Rejection::Policy(DenyReason::UnknownName), false),
            (Rejection::Policy(DenyReason::NoName), false),
            (Rejection::Policy(DenyReason::NotGranted), false),
            (Rejection::Protocol, false),
            (Rejection::Limited(connections), false),
            (Rejection::LeftWaiting, false),
            (Rejection::Dial(DialError::NoneHealthy), false),
            (Rejection::Revoked, false),
            (header(), false),
        ] {
            assert_eq!(rejection.counts_towards_ban(), counts, "{rejection:?}");
        }
    }
}
