//! Connects to an upstream, and to the next one if that fails.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    cause::Cause,
    group::Group,
    lease::{Lease, NoLease},
    limit::Limit,
};

/// How many times the kernel asks a silent peer within one keepalive period.
const KEEPALIVE_PROBES: u32 = 3;

/// What happened while dialing, as far as it got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DialReport {
    /// How many upstreams were dialed.
    pub tries: u32,
    /// Which one was dialed last.
    pub upstream: Option<SocketAddr>,
    /// How the last dial that failed did so.
    pub last: Option<io::ErrorKind>,
}

/// A connection to an upstream, and the lease that counts it.
#[derive(Debug)]
#[must_use = "dropping a dialed connection closes it"]
pub struct Dialed {
    /// The connection.
    pub stream: TcpStream,
    /// Its claim on the upstream.
    pub lease: Lease,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum DialError {
    /// The group has as many connections as it may.
    #[error("the group has all of its {limit} connections open")]
    GroupFull {
        /// How many it may have.
        limit: Limit,
    },
    /// No upstream takes connections.
    #[error("no upstream of the group is healthy")]
    NoneHealthy,
    /// Every dial failed.
    #[error("{tries} dials failed")]
    AllFailed {
        /// How many upstreams were dialed.
        tries: u32,
        /// How the last dial failed.
        #[source]
        last: io::Error,
    },
}

/// Dials the least loaded healthy upstream, and after a failure the next that was not tried yet.
///
/// While the first probes of a fresh group are under way, it waits for [their verdict](Group::first_verdict).
/// A dial counts on the upstream from its start. It takes at most the `connect` timeout, and all
/// dials together at most the budget. Cancel safe: dropping the future closes the socket and
/// returns the lease.
pub async fn dial(group: &Arc<Group>, report: &mut DialReport) -> Result<Dialed, DialError> {
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
        match timeout(
            config.dial.connect.min(left),
            connect(address, config.relay.keepalive),
        )
        .await
        {
            Ok(Ok(stream)) => {
                group.dialed(address, Ok(()));
                return Ok(Dialed { stream, lease });
            }
            Ok(Err(error)) => {
                if !is_ours(&error) {
                    group.dialed(address, Err(Cause::of(&error)));
                }
                failed = Some(error);
            }
            Err(_) => {
                // One that the budget cut short was not given its time.
                if left >= config.dial.connect {
                    group.dialed(address, Err(Cause::ConnectTimedOut));
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

async fn connect(address: SocketAddr, keepalive: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let interval = (keepalive / KEEPALIVE_PROBES).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new()
        .with_time(keepalive.max(Duration::from_secs(1)))
        .with_interval(interval);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// Whether the failure says something about us and nothing about the upstream: out of file
/// descriptors, of memory, or of local ports.
pub(crate) fn is_ours(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse | io::ErrorKind::OutOfMemory
    ) || matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        group_config::{DialConfig, GroupConfig, HealthConfig, UpstreamConfig},
        health::Health,
        probe::Check,
    };

    async fn listening() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address that refuses, and keeps refusing while the socket is held.
    fn refusing() -> (socket2::Socket, SocketAddr) {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    /// An address that neither accepts nor refuses, since its backlog is full.
    async fn silent() -> (socket2::Socket, Vec<TcpStream>, SocketAddr) {
        let (socket, address) = refusing();
        socket.listen(1).unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) =
            timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            queued.push(stream.unwrap());
        }
        (socket, queued, address)
    }

    fn group(upstreams: &[SocketAddr], dial: DialConfig) -> Arc<Group> {
        let upstreams = upstreams.iter().copied().map(UpstreamConfig::new).collect();
        let health = HealthConfig {
            check: Check::Off,
            ..HealthConfig::default()
        };
        Arc::new(Group::new(GroupConfig {
            health,
            dial,
            ..GroupConfig::new("ledger", upstreams)
        }))
    }

    fn open(group: &Group) -> Vec<u32> {
        group
            .upstreams()
            .iter()
            .map(|upstream| upstream.open)
            .collect()
    }

    #[tokio::test]
    async fn a_refused_dial_goes_on_to_the_next_upstream() {
        let ((_held, refuses), (_listener, accepts)) = (refusing(), listening().await);
        let group = group(&[refuses, accepts], DialConfig::default());
        let _busy = group.lease(&[refuses]).unwrap();
        let mut report = DialReport::default();
        let dialed = dial(&group, &mut report).await.unwrap();
        assert_eq!(dialed.stream.peer_addr().unwrap(), accepts);
        assert_eq!(dialed.lease.address(), accepts);
        assert!(dialed.stream.nodelay().unwrap());
        assert!(SockRef::from(&dialed.stream).keepalive().unwrap());
        let last = Some(io::ErrorKind::ConnectionRefused);
        assert_eq!(
            report,
            DialReport {
                tries: 2,
                upstream: Some(accepts),
                last
            }
        );
        assert_eq!(open(&group), [0, 2], "the failed dial was returned");
    }

    #[tokio::test]
    async fn no_more_upstreams_are_dialed_than_tries() {
        let held: Vec<_> = (0..4).map(|_| refusing()).collect();
        let addresses: Vec<_> = held.iter().map(|(_, address)| *address).collect();
        let group = group(&addresses, DialConfig::default());
        let failed = dial(&group, &mut DialReport::default()).await.unwrap_err();
        assert!(
            matches!(failed, DialError::AllFailed { tries: 3, .. }),
            "{failed:?}"
        );
        assert_eq!(group.open(), 0);
    }

    #[tokio::test]
    async fn every_upstream_is_dialed_once_at_most() {
        let (_held, refuses) = refusing();
        let group = group(&[refuses], DialConfig::default());
        let failed = dial(&group, &mut DialReport::default()).await.unwrap_err();
        assert!(
            matches!(failed, DialError::AllFailed { tries: 1, .. }),
            "{failed:?}"
        );
    }

    #[tokio::test]
    async fn failed_dials_take_an_upstream_out_and_then_nobody_waits() {
        let (_held, refuses) = refusing();
        let group = group(&[refuses], DialConfig::default());
        for _ in 0..3 {
            assert!(dial(&group, &mut DialReport::default()).await.is_err());
        }
        assert_eq!(group.health(refuses), Some(Health::Down));
        let mut report = DialReport::default();
        let refusal = dial(&group, &mut report).await.unwrap_err();
        assert!(matches!(refusal, DialError::NoneHealthy), "{refusal:?}");
        assert_eq!(report, DialReport::default(), "nothing was dialed");
    }

    #[tokio::test]
    async fn a_full_group_refuses_at_once() {
        let (_listener, accepts) = listening().await;
        let group = group(&[accepts], DialConfig::default());
        let limit = Limit::AtMost(std::num::NonZeroU32::MIN);
        group.alter(GroupConfig {
            max_connections: limit,
            ..GroupConfig::clone(&group.config())
        });
        let _first = dial(&group, &mut DialReport::default()).await.unwrap();
        let refusal = dial(&group, &mut DialReport::default()).await.unwrap_err();
        assert!(
            matches!(refusal, DialError::GroupFull { .. }),
            "{refusal:?}"
        );
    }

    #[tokio::test]
    async fn a_silent_upstream_costs_one_timeout_and_all_of_them_the_budget() {
        let (_one, _queued, first) = silent().await;
        let (_two, _queued_too, second) = silent().await;
        let connect = Duration::from_millis(60);
        let budget = Duration::from_millis(90);
        let dials = DialConfig {
            connect,
            budget,
            ..DialConfig::default()
        };
        let group = group(&[first, second], dials);
        tokio::time::pause();
        let begun = Instant::now();
        let mut report = DialReport::default();
        let failed = timeout(Duration::from_secs(10), dial(&group, &mut report))
            .await
            .unwrap();
        assert!(
            matches!(failed, Err(DialError::AllFailed { tries: 2, .. })),
            "{failed:?}"
        );
        assert_eq!(report.last, Some(io::ErrorKind::TimedOut));
        assert!((89..=92).contains(&begun.elapsed().as_millis()));
        assert_eq!(open(&group), [0, 0]);
    }

    #[tokio::test]
    async fn a_dial_counts_while_it_is_under_way_and_not_after_it_was_cancelled() {
        let (_socket, _queued, silent) = silent().await;
        let group = group(&[silent], DialConfig::default());
        let mut report = DialReport::default();
        let mut dialing = Box::pin(dial(&group, &mut report));
        assert!(
            timeout(Duration::from_millis(1), &mut dialing)
                .await
                .is_err()
        );
        assert_eq!(open(&group), [1]);
        drop(dialing);
        assert_eq!(open(&group), [0]);
    }

    #[test]
    fn what_only_we_lack_is_not_held_against_an_upstream() {
        assert!(
            is_ours(&io::Error::from_raw_os_error(24)),
            "too many open files"
        );
        assert!(
            is_ours(&io::ErrorKind::AddrNotAvailable.into()),
            "no local port left"
        );
        assert!(!is_ours(&io::ErrorKind::ConnectionRefused.into()));
        assert!(!is_ours(&io::ErrorKind::TimedOut.into()));
    }
}
