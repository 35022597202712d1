//! What is in force at one moment: policy, TLS and the groups' live state, under one generation.

use std::sync::Arc;

use imbl::HashMap;
use lb::LoadBalancer;
use rustls_pki_types::UnixTime;

use crate::balancer_config;
use crate::identity::Identity;
use crate::policy::{ClientPolicy, Decision, GroupPolicy, Policy, PolicyChange};
use crate::rejection::Rejection;
use crate::tls::TlsSettings;
use crate::verifier::Destination;

/// One generation of all that decides. A connection takes one and never sees half of another.
#[derive(Debug)]
pub struct GatewaySnapshot {
    generation: u64,
    policy: Policy,
    tls: Arc<TlsSettings>,
    groups: HashMap<Arc<str>, Arc<lb::UpstreamGroup>>,
}

/// Proof that a client was authorized to reach a group.
///
/// Only [`GatewaySnapshot::authorize`] makes one, so whoever takes a `Permit` has nothing left to check.
#[derive(Debug)]
pub struct Permit {
    identity: Identity,
    destination: Destination,
    generation: u64,
    client: Arc<ClientPolicy>,
    group: Arc<GroupPolicy>,
    upstreams: Arc<lb::UpstreamGroup>,
    /// When the first certificate ends that proves the identity.
    expires: Option<UnixTime>,
}

impl GatewaySnapshot {
    /// The first generation; the groups begin in `balancer`.
    pub fn first(policy: Policy, tls: Arc<TlsSettings>, balancer: &LoadBalancer) -> Self {
        let changes: Vec<PolicyChange> = policy
            .groups()
            .cloned()
            .map(PolicyChange::PutGroup)
            .collect();
        let gateway = Arc::clone(policy.gateway());
        let base = Self {
            generation: 1,
            policy,
            tls,
            groups: HashMap::new(),
        };
        let groups = base.put_groups(&changes, &gateway, balancer);
        Self { groups, ..base }
    }

    /// The same generation as the next after another process's generation.
    #[must_use]
    pub fn after_generation(self, generation: u64) -> Self {
        Self {
            generation: generation + 1,
            ..self
        }
    }

    /// The next generation: `policy`, to which `changes` lead. What they add is in `balancer` afterwards; what
    /// they remove must be taken out with [`GatewaySnapshot::retire`] once nobody reads this generation.
    #[must_use]
    pub fn next(
        &self,
        policy: Policy,
        changes: &[PolicyChange],
        tls: Arc<TlsSettings>,
        balancer: &LoadBalancer,
    ) -> Self {
        let gateway = Arc::clone(policy.gateway());
        let timeouts_changed = gateway.timeouts != self.policy.gateway().timeouts;
        let mut groups = self.put_groups(changes, &gateway, balancer);
        if timeouts_changed {
            let all: Vec<PolicyChange> = policy
                .groups()
                .cloned()
                .map(PolicyChange::PutGroup)
                .collect();
            groups = self.put_groups(&all, &gateway, balancer);
        }
        for change in changes {
            if let PolicyChange::RemoveGroup(name) = change {
                groups.remove(name.as_ref() as &str);
            }
        }
        Self {
            generation: self.generation + 1,
            policy,
            tls,
            groups,
        }
    }

    /// Takes what `changes` removed out of `balancer`.
    pub fn retire(changes: &[PolicyChange], balancer: &LoadBalancer) {
        let removed = changes.iter().filter_map(|change| match change {
            PolicyChange::RemoveGroup(name) => {
                Some(lb::BalancerChange::RemoveGroup(Arc::clone(name)))
            }
            PolicyChange::Gateway(_)
            | PolicyChange::PutGroup(_)
            | PolicyChange::PutClient(_)
            | PolicyChange::RemoveClient(_) => None,
        });
        balancer.apply(removed).expect("a group can always go");
    }

    fn put_groups(
        &self,
        changes: &[PolicyChange],
        gateway: &crate::policy::GatewayPolicy,
        balancer: &LoadBalancer,
    ) -> HashMap<Arc<str>, Arc<lb::UpstreamGroup>> {
        let put: Vec<&Arc<GroupPolicy>> = changes
            .iter()
            .filter_map(|change| match change {
                PolicyChange::PutGroup(group) => Some(group),
                PolicyChange::Gateway(_)
                | PolicyChange::RemoveGroup(_)
                | PolicyChange::PutClient(_)
                | PolicyChange::RemoveClient(_) => None,
            })
            .collect();
        let put_groups = put.iter();
        let put_groups = put_groups.map(|group| balancer_config::group(group, gateway));
        balancer
            .apply(put_groups.map(lb::BalancerChange::PutGroup))
            .expect("whatever a policy can say, a balancer can do");
        let mut groups = self.groups.clone();
        for group in put {
            let live = balancer.group(&group.name).expect("the group was just put");
            groups.insert(Arc::clone(&group.name), live);
        }
        groups
    }

    /// Counts up with every change of the policy.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The policy of this generation.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The TLS side of this generation.
    pub fn tls(&self) -> &Arc<TlsSettings> {
        &self.tls
    }

    /// The application protocols of a destination, or of one that there might be.
    pub(crate) fn protocols(&self, destination: &Destination) -> &[Vec<u8>] {
        let Destination { sni, port } = destination;
        let rank = |list: &[Vec<u8>]| self.tls.rank(destination, list);
        self.policy.protocols(sni.as_deref(), *port, rank)
    }

    /// Asks the policy whether this client may go there.
    pub fn authorize(
        &self,
        identity: Identity,
        destination: &Destination,
    ) -> Result<Permit, Rejection> {
        let sni = destination.sni.as_deref();
        match self.policy.decide(identity.name(), sni, destination.port) {
            Decision::Allow { group, client } => {
                let upstreams = self
                    .groups
                    .get(&group.name)
                    .expect("every group has live state");
                Ok(Permit {
                    identity,
                    destination: destination.clone(),
                    generation: self.generation,
                    client,
                    upstreams: Arc::clone(upstreams),
                    group,
                    expires: None,
                })
            }
            Decision::Deny { reason } => Err(Rejection::Policy(reason)),
        }
    }
}

impl Permit {
    /// The same permit of a client whose first certificate ends then.
    #[must_use]
    pub(crate) fn until(mut self, ends: UnixTime) -> Self {
        self.expires = Some(ends);
        self
    }

    /// When the first certificate of the client's chain ends.
    pub(crate) fn expires(&self) -> Option<UnixTime> {
        self.expires
    }

    /// Who was authorized.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where the client wanted to go.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The generation that authorized.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The client's line of the policy.
    pub fn client(&self) -> &ClientPolicy {
        &self.client
    }

    /// The group that the client may reach.
    pub fn group(&self) -> &GroupPolicy {
        &self.group
    }

    /// The group's live state.
    pub fn upstreams(&self) -> &Arc<lb::UpstreamGroup> {
        &self.upstreams
    }
}
