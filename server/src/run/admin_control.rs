//! The running gateway behind its admin socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use admin::{
    AdminError, ClientReport, ClientsReport, ConnectionCounts, GatewayControl, GroupReport,
    GroupsReport, ReloadStatus, StatusReport, UpgradeReport, UpgradeRequest, UpstreamReport,
    UpstreamsReport,
};
use ebpf::Role;
use gateway::Gateway;
use lb::{UpstreamGroup, UpstreamHealth, UpstreamState, UpstreamStatus};
use policy::{ClientPolicy, GroupPolicy, Quota};
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{mpsc, oneshot, watch};

use crate::upgrade::UpgradeError;

/// Request for an upgrade, with the channel for its answer.
#[derive(Debug)]
pub(super) struct PendingRequest {
    /// The upgrade that is requested.
    pub(super) upgrade: UpgradeRequest,
    /// Channel for the result.
    pub(super) answer: oneshot::Sender<Result<UpgradeReport, UpgradeError>>,
}

/// A group of the policy, with its live state.
type LiveGroup = (Arc<GroupPolicy>, Arc<UpstreamGroup>);

/// State of the main loop, as the admin socket reports it.
#[derive(Debug, Clone, Default)]
pub(super) struct ProcessNews {
    pub(super) last_reload: Option<ReloadStatus>,
    pub(super) old_process_drains: bool,
}

/// Answers what is asked at the admin socket.
#[derive(Debug)]
pub(super) struct AdminControl {
    pub(super) gateway: Arc<Gateway>,
    pub(super) policy: PathBuf,
    pub(super) role: Role,
    pub(super) workers: usize,
    /// Time of the start of the process.
    pub(super) started: (Instant, SystemTime),
    pub(super) news: watch::Receiver<ProcessNews>,
    pub(super) upgrade_requests: mpsc::Sender<PendingRequest>,
}

impl GatewayControl for AdminControl {
    async fn upgrade(&self, upgrade: UpgradeRequest) -> Result<UpgradeReport, AdminError> {
        let (answer, upgraded) = oneshot::channel();
        let request = PendingRequest { upgrade, answer };
        let sent = self.upgrade_requests.send(request).await;
        sent.map_err(|_| AdminError::Ending)?;
        let upgraded = upgraded.await.map_err(|_| AdminError::Ending)?;
        upgraded.map_err(|error| AdminError::Upgrade(error.to_string()))
    }

    fn status(&self) -> StatusReport {
        let snapshot = self.gateway.snapshot();
        let shared = self.gateway.shared();
        let limits = shared.limits();
        let (instant, time) = self.started;
        let news = self.news.borrow().clone();
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: rfc_3339(time.into()),
            uptime_seconds: instant.elapsed().as_secs(),
            role: match self.role {
                Role::Primary => "primary",
                Role::Standby => "standby",
            }
            .to_owned(),
            policy: self.policy.display().to_string(),
            generation: snapshot.generation(),
            last_reload: news.last_reload,
            workers: self.workers,
            listeners: self
                .gateway
                .addresses()
                .iter()
                .map(ToString::to_string)
                .collect(),
            steering: self.gateway.is_steered_to(),
            old_process_drains: news.old_process_drains,
            connections: ConnectionCounts {
                open: limits.connections(),
                max: most(snapshot.policy().gateway().limits.connections),
                own: shared.connections().open(),
                handshakes: limits.handshakes(),
                silent: limits.silent(),
            },
        }
    }

    fn groups(&self) -> GroupsReport {
        let (generation, groups) = self.live_groups();
        let groups = groups.iter().map(|(policy, live)| GroupReport {
            name: policy.name.to_string(),
            sni: policy.sni.iter().map(ToString::to_string).collect(),
            ports: policy.ports.clone(),
            connections: live.open(),
            max_connections: most(policy.max_connections),
            upstreams: policy.upstreams.len(),
            available: live
                .upstreams()
                .iter()
                .filter(|one| is_available(one))
                .count(),
        });
        GroupsReport {
            generation,
            groups: groups.collect(),
        }
    }

    fn upstreams(&self) -> UpstreamsReport {
        let (generation, groups) = self.live_groups();
        let upstreams = groups.iter().flat_map(|(policy, live)| {
            let upstreams = live.upstreams().into_iter();
            upstreams.map(|upstream| upstream_report(&policy.name, &upstream))
        });
        UpstreamsReport {
            generation,
            upstreams: upstreams.collect(),
        }
    }

    fn clients(&self) -> ClientsReport {
        let snapshot = self.gateway.snapshot();
        let shared = self.gateway.shared();
        let limiter = shared.balancer().limiter();
        let ends = shared.connections().certificate_ends();
        let mut clients: Vec<&Arc<ClientPolicy>> = snapshot.policy().clients().collect();
        clients.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let clients = clients.iter().map(|client| {
            let name = client.name.as_str();
            ClientReport {
                name: name.to_owned(),
                groups: client.groups.iter().map(ToString::to_string).collect(),
                connections: limiter.open(name),
                max_connections: most(client.max_connections),
                waiting: limiter.waiting(name),
                rate: client.rate.as_ref().map(ToString::to_string),
                certificate_ends: ends.get(&client.name).copied().and_then(unix_time),
            }
        });
        ClientsReport {
            generation: snapshot.generation(),
            clients: clients.collect(),
        }
    }
}

impl AdminControl {
    /// Returns the generation in force and its groups with their live state, by name.
    fn live_groups(&self) -> (u64, Vec<LiveGroup>) {
        let snapshot = self.gateway.snapshot();
        let balancer = self.gateway.shared().balancer();
        // A group that a reload removes at this moment has no live state any more.
        let live = |group: &Arc<GroupPolicy>| {
            let live = balancer.group(&group.name)?;
            Some((Arc::clone(group), live))
        };
        let mut groups: Vec<_> = snapshot.policy().groups().filter_map(live).collect();
        groups.sort_unstable_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        (snapshot.generation(), groups)
    }
}

fn upstream_report(group: &str, upstream: &UpstreamStatus) -> UpstreamReport {
    UpstreamReport {
        group: group.to_owned(),
        address: upstream.address.to_string(),
        health: upstream.health.to_string(),
        cause: upstream.cause.as_ref().map(ToString::to_string),
        state: upstream.state.as_str().to_owned(),
        weight: upstream.weight.get(),
        backup: upstream.backup,
        connections: upstream.open,
    }
}

fn is_available(upstream: &UpstreamStatus) -> bool {
    upstream.health == UpstreamHealth::Up && upstream.state == UpstreamState::Ready
}

fn most(quota: Quota) -> Option<u32> {
    match quota {
        Quota::Unlimited => None,
        Quota::AtMost(most) => Some(most.get()),
    }
}

fn unix_time(time: UnixTime) -> Option<String> {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    // A later year than 9999 is as good as none.
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .map(rfc_3339)
}

/// Returns a time in RFC 3339, in whole seconds.
pub(super) fn rfc_3339(time: OffsetDateTime) -> String {
    let time = time.replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_default()
}
