//! Outcomes of a start and of a stream.

use std::net::SocketAddr;

use thiserror::Error;
use tokio::runtime::TryCurrentError;

use crate::dial::DialError;
use crate::limit::Limit;
use crate::limiter::ClientDenied;
use crate::relay::RelayError;

/// Result of a connection that reached an upstream.
///
/// It is the result of [`LoadBalancer::handle`](crate::LoadBalancer::handle).
#[derive(Debug)]
#[non_exhaustive]
pub struct StreamEnd {
    /// Address of the upstream.
    pub upstream: SocketAddr,
    /// Bytes that were written to the client.
    pub sent: u64,
    /// Bytes of the client that were written to the upstream.
    pub received: u64,
    /// Reason for the end.
    pub outcome: StreamOutcome,
}

/// Reason for the end of a connection that reached an upstream.
#[derive(Debug)]
pub enum StreamOutcome {
    /// Both sides ended their streams.
    Finished,
    /// The client ended its stream, and was gone before the upstream ended its own.
    ClientLeft,
    /// The relay broke off.
    Broken(RelayError),
    /// The load balancer stopped, and the connection was open at the deadline.
    CutOff,
}

/// Error of [`LoadBalancer::start`](crate::LoadBalancer::start): nothing is probed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProbeStartError {
    /// The call was not made on a tokio runtime, where probes would run.
    #[error("no tokio runtime; start the load balancer on one")]
    NoRuntime(#[from] TryCurrentError),
    /// The load balancer was stopped, and cannot be started again.
    #[error("the load balancer was stopped")]
    Stopped,
}

/// Error of a stream that was refused, in the order in which the reasons are checked.
///
/// ```
/// use lb::{ClientDenied, StreamRejection};
///
/// /// Returns true if the client may as well try again at once.
/// fn may_try_again(rejection: &StreamRejection) -> bool {
///     match rejection {
///         StreamRejection::Dial(_) => true,
///         StreamRejection::Denied(ClientDenied::ClientConnections { .. }) => true,
///         StreamRejection::Denied(ClientDenied::ClientRate { .. }) => false,
///         StreamRejection::Stopping | StreamRejection::Full { .. } => false,
///         StreamRejection::UnknownGroup | StreamRejection::Left => false,
///     }
/// }
/// assert!(!may_try_again(&StreamRejection::UnknownGroup));
/// ```
#[derive(Debug, Error)]
pub enum StreamRejection {
    /// The load balancer is stopping.
    #[error("the load balancer is stopping")]
    Stopping,
    /// As many connections are open as
    /// [`LoadBalancerConfig::connections`](crate::LoadBalancerConfig::connections) allows.
    #[error("the limit of {limit} connections is reached")]
    Full {
        /// Limit of all connections together.
        limit: Limit,
    },
    /// No group of that name is configured.
    #[error("the group does not exist")]
    UnknownGroup,
    /// The limits of the client do not allow the connection.
    #[error(transparent)]
    Denied(#[from] ClientDenied),
    /// The client was gone before its connection was admitted.
    #[error("the client disconnected while it waited")]
    Left,
    /// No upstream could be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
}
