//! Ends of a relay: in order, or by an error.

use std::io;

use thiserror::Error;

/// Orderly end of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayEnd {
    /// Both sides ended their streams, and each was notified of the other's end.
    Both,
    /// The client ended its stream, of which the upstream was notified, and was gone before the
    /// upstream ended its own.
    ClientLeft,
}

/// Error of a relay that broke off.
#[derive(Debug, Error)]
pub enum RelayError {
    /// The client's connection failed.
    #[error("the client's connection failed")]
    Downstream(#[source] io::Error),
    /// The upstream's connection failed.
    #[error("the upstream's connection failed")]
    Upstream(#[source] io::Error),
    /// Both directions were silent for longer than [`RelayConfig::idle`](crate::RelayConfig::idle).
    #[error("the connection was idle for too long")]
    Idle,
    /// One side had ended, and the connection was silent for too long: see
    /// [`RelayConfig::half_closed`](crate::RelayConfig::half_closed).
    #[error("the connection was half-closed and silent for too long")]
    HalfClosed,
    /// Bytes waited for the client, and it took none for longer than
    /// [`RelayConfig::stall`](crate::RelayConfig::stall).
    #[error("the client did not read for too long")]
    ClientStalled,
    /// Bytes waited for the upstream, and it took none for longer than
    /// [`RelayConfig::stall`](crate::RelayConfig::stall).
    #[error("the upstream did not read for too long")]
    UpstreamStalled,
    /// The connection reached the end of its [lifetime](crate::RelayConfig::lifetime).
    #[error("the connection reached the end of its lifetime")]
    Lifetime,
    /// The upstream went down, and its group is configured to cut its connections then.
    #[error("the upstream went down")]
    UpstreamDown,
}
