//! The state in force at one time: policy, TLS settings and the groups' live state, under one
//! generation.

use std::sync::Arc;

use imbl::HashMap;
use lb::LoadBalancer;
use policy::{ClientPolicy, Decision, Destination, GroupPolicy, Policy, PolicyChange};
use rustls_pki_types::UnixTime;
use tls::TlsSettings;

use crate::balancer_config;
use crate::client_identity::Identity;
use crate::rejection::Rejection;

/// One generation of everything that decides about connections. A connection takes one snapshot and
/// never sees parts of two generations.
#[derive(Debug)]
pub struct GatewaySnapshot {
    generation: u64,
    policy: Policy,
    tls: Arc<TlsSettings>,
    groups: HashMap<Arc<str>, Arc<lb::UpstreamGroup>>,
}

/// Proof that a client was authorized to reach a group.
///
/// Only [`GatewaySnapshot::authorize`] makes one, so a function that takes a `Permit` need not
/// check the authorization again.
#[derive(Debug)]
pub struct Permit {
    identity: Identity,
    destination: Destination,
    generation: u64,
    client: Arc<ClientPolicy>,
    group: Arc<GroupPolicy>,
    upstreams: Arc<lb::UpstreamGroup>,
    /// The earliest end of a certificate in the chain that proves the identity.
    expires: Option<UnixTime>,
}

impl GatewaySnapshot {
    /// Creates the first generation, and its groups in `balancer`.
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

    /// Returns this snapshot with the generation after `generation`, which is another process's.
    #[must_use]
    pub fn after_generation(self, generation: u64) -> Self {
        Self {
            generation: generation + 1,
            ..self
        }
    }

    /// Returns the next generation, with `policy`, which differs by `changes`. Groups that they add
    /// are in `balancer` afterwards; those that they remove must be taken out with
    /// [`GatewaySnapshot::retire`] once no connection reads this generation.
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

    /// Removes the groups that `changes` removed from `balancer`.
    ///
    /// # Panics
    ///
    /// Not in practice: a group can always be removed.
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
        gateway: &policy::GatewayPolicy,
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

    /// Returns the number of the generation, which grows by one with each change that is put in
    /// force.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the policy of this generation.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the TLS settings of this generation.
    pub fn tls(&self) -> &Arc<TlsSettings> {
        &self.tls
    }

    /// Returns the application protocols of a destination. One without a group gets those of an
    /// existing group, so that the answer does not reveal whether there is a group.
    pub(crate) fn protocols(&self, destination: &Destination) -> &[Vec<u8>] {
        let Destination { sni, port } = destination;
        let rank = |list: &[Vec<u8>]| self.tls.rank(sni.as_deref(), *port, list);
        self.policy.protocols(sni.as_deref(), *port, rank)
    }

    /// Decides by the policy whether this client may connect to `destination`.
    ///
    /// # Errors
    ///
    /// [`Rejection::Policy`] with the policy's reason.
    ///
    /// # Panics
    ///
    /// Not in practice: each group of the policy has its upstreams in the snapshot.
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
    /// Returns this permit with the time at which the first certificate of the client's chain ends.
    /// It is returned by [`Permit::expires`].
    #[must_use]
    pub(crate) fn until(mut self, ends: UnixTime) -> Self {
        self.expires = Some(ends);
        self
    }

    /// Returns the time at which the first certificate of the client's chain ends; `None` if it was
    /// not set.
    pub(crate) fn expires(&self) -> Option<UnixTime> {
        self.expires
    }

    /// Returns the identity of the client that was authorized.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the destination that the client asked for.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Returns the generation that authorized the client.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the client's entry in the policy.
    pub fn client(&self) -> &ClientPolicy {
        &self.client
    }

    /// Returns the policy of the group that the client may reach.
    pub fn group(&self) -> &GroupPolicy {
        &self.group
    }

    /// Returns the live state of the group, to which connections are dialed.
    pub fn upstreams(&self) -> &Arc<lb::UpstreamGroup> {
        &self.upstreams
    }
}
