//! The reasons for which a handshake fails, apart from those of a gateway.

use thiserror::Error;

use crate::first_bytes::FirstBytes;
use crate::hello_limits::HelloExcess;
use crate::tls_messages;

/// Reason for the failure of a handshake that is not a decision about the client.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum HandshakeFailure {
    /// The client lost its [`SilentSlot`](super::HandshakeGate::SilentSlot) to another one.
    #[error("the connection gave way before its ClientHello was whole")]
    SilentEvicted,
    /// The client lost its [`HandshakeSlot`](super::HandshakeGate::HandshakeSlot) to another one.
    #[error("the handshake gave way to another one")]
    Evicted,
    /// The deadline has passed; the value classifies the bytes that were received.
    #[error("the handshake was not complete in time")]
    Late(FirstBytes),
    /// The client closed or reset the connection; the value classifies the bytes that were
    /// received.
    #[error("the client disconnected during the handshake")]
    Abandoned(FirstBytes),
    /// The client does not begin with TLS. It was sent an alert.
    #[error("the client does not begin with TLS: {0}")]
    NotTls(FirstBytes),
    /// TLS reached no agreement. The client was sent an alert.
    #[error("{}", tls_messages::tls(.0))]
    Tls(rustls::Error),
    /// The client exceeded a limit. It was sent an alert.
    #[error(transparent)]
    Excess(HelloExcess),
}
