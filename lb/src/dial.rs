//! Connecting to an upstream, and to the next one if that fails.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it connects, within a time"
)]

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use peer::Downstream;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::cause::{FailureCause, is_ours};
use crate::group::UpstreamGroup;
use crate::lease::Lease;
use crate::limit::Limit;
use crate::no_lease::NoLease;
use crate::relay::{RelayEnd, RelayError, Traffic, relay_leased};
use crate::tcp;

/// Record of the dials made so far; [`dial`] keeps it up to date, also if its future is dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DialReport {
    /// Number of upstreams that were dialed.
    pub tries: u32,
    /// Upstream that was dialed last.
    pub upstream: Option<SocketAddr>,
    /// Kind of the error of the last dial that failed.
    pub last: Option<io::ErrorKind>,
}

/// A connection to an upstream, and the lease that counts it.
///
/// However it ends, killed process included, the upstream sees a reset, unless a relay finished.
#[derive(Debug)]
#[must_use = "dropping a dialed connection resets it"]
pub struct Dialed {
    /// The connection to the upstream.
    pub stream: TcpStream,
    /// Claim of the connection on the upstream.
    pub lease: Lease,
    /// Time when the connection was made.
    at: Instant,
}

impl Dialed {
    /// Relays as [`relay`](crate::relay()) does, with the current
    /// [`RelayConfig`](crate::RelayConfig) of the lease's group.
    ///
    /// The result counts for the upstream's health: an upstream that ends the connection without a
    /// byte within a second has failed, and so has one that breaks off again and again. If the
    /// upstream goes down, the connection ends if the group is configured so
    /// ([`OnDown::Cut`](crate::OnDown::Cut)).
    ///
    /// # Errors
    ///
    /// The [`RelayError`] that ended the connection: a side broke off, a time limit passed, or the
    /// upstream went down.
    pub async fn relay<D: Downstream>(
        &mut self,
        downstream: &mut D,
        traffic: &Traffic,
    ) -> Result<RelayEnd, RelayError> {
        let config = self.lease.group().config().relay;
        let upstream = (&mut self.stream, &self.lease, self.at);
        let down = async {
            match self.lease.down() {
                Some(down) => down.cancelled().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            relayed = relay_leased(downstream, upstream, &config, traffic) => relayed,
            () = down => Err(RelayError::UpstreamDown),
        }
    }
}

/// Error of [`dial`]: there is no connection.
#[derive(Debug, Error)]
pub enum DialError {
    /// The group has as many connections as
    /// [`GroupConfig::max_connections`](crate::GroupConfig::max_connections) allows.
    #[error("the group's limit of {limit} connections is reached")]
    GroupFull {
        /// Limit of connections of the group.
        limit: Limit,
    },
    /// No upstream of the group takes connections.
    #[error("no upstream of the group is healthy")]
    NoneHealthy,
    /// Every dial failed. No more are made when the tries or the budget of
    /// [`DialConfig`](crate::DialConfig) or the upstreams are used up.
    #[error("{tries} dials failed")]
    AllFailed {
        /// Number of upstreams that were dialed.
        tries: u32,
        /// Error of the last dial.
        #[source]
        last: io::Error,
    },
}

/// Dials the least loaded healthy upstream, and after a failure the next that was not tried yet.
///
/// While the first probes of a fresh group are under way, it waits for [their
/// verdict](UpstreamGroup::first_verdict). A dial counts on the upstream from its start. It takes
/// at most the `connect` timeout, and all dials together at most the budget. Cancel safe: dropping
/// the future closes the socket and returns the lease. An accepted connection is not yet a sign of
/// health: [`Dialed::relay`] observes more.
///
/// # Errors
///
/// [`DialError::GroupFull`] or [`DialError::NoneHealthy`] if no upstream was dialed,
/// [`DialError::AllFailed`] if no dial succeeded.
///
/// ```
/// use std::sync::Arc;
///
/// use lb::{DialReport, GroupConfig, HealthConfig, ProbeKind, UpstreamConfig, UpstreamGroup, dial};
/// use tokio::net::TcpListener;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let upstream = TcpListener::bind("127.0.0.1:0").await?;
/// let group = Arc::new(UpstreamGroup::alone(GroupConfig {
///     health: HealthConfig { check: ProbeKind::Off, ..HealthConfig::default() },
///     ..GroupConfig::new("web", vec![UpstreamConfig::new(upstream.local_addr()?)])
/// })?);
/// let mut report = DialReport::default();
/// let dialed = dial(&group, &mut report).await?;
/// assert_eq!((report.tries, report.upstream), (1, Some(dialed.lease.address())));
/// # Ok(())
/// # }
/// ```
pub async fn dial(
    group: &Arc<UpstreamGroup>,
    report: &mut DialReport,
) -> Result<Dialed, DialError> {
    dial_by(group, report, tcp::connect).await
}

async fn dial_by<F: Future<Output = io::Result<TcpStream>>>(
    group: &Arc<UpstreamGroup>,
    report: &mut DialReport,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<Dialed, DialError> {
    *report = DialReport::default();
    group.first_verdict().await;
    let config = group.config();
    let deadline = Instant::now() + config.dial.budget;
    let mut tried = Vec::new();
    let mut failed = None;
    for _ in 0..config.dial.tries.get() {
        let left = deadline.saturating_duration_since(Instant::now());
        if failed.is_some() && left.is_zero() {
            break;
        }
        let lease = match (group.lease(&tried), &failed) {
            (Ok(lease), _) => lease,
            (Err(NoLease::GroupFull { limit }), _) => return Err(DialError::GroupFull { limit }),
            (Err(NoLease::NoneHealthy | NoLease::AllTried), Some(_)) => break,
            (Err(NoLease::NoneHealthy | NoLease::AllTried), None) => {
                return Err(DialError::NoneHealthy);
            }
        };
        let address = lease.address();
        report.tries += 1;
        report.upstream = Some(address);
        match timeout(config.dial.connect.min(left), connect(address)).await {
            Ok(Ok(stream)) => {
                let at = Instant::now();
                return Ok(Dialed { stream, lease, at });
            }
            Ok(Err(error)) => {
                if !is_ours(&error) {
                    group.dialed(address, Err(FailureCause::of(&error)));
                }
                failed = Some(error);
            }
            Err(_) => {
                // A dial that the budget cut short did not have its full time.
                if left >= config.dial.connect {
                    group.dialed(address, Err(FailureCause::ConnectTimedOut));
                }
                failed = Some(io::ErrorKind::TimedOut.into());
            }
        }
        report.last = failed.as_ref().map(io::Error::kind);
        tried.push(address);
    }
    let last = failed.expect("at least one dial was tried, and none succeeded");
    Err(DialError::AllFailed {
        tries: report.tries,
        last,
    })
}

#[cfg(test)]
mod tests;
