//! The next generation of what a gateway has in force.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::UnixTime;

use super::Gateway;
use crate::connection_table::RevokedConnections;
use crate::inherited_listeners::InheritedListeners;
use crate::load::{LoadError, LoadedPolicy};
use crate::policy::{OnRevoke, Policy, PolicyChange};
use crate::priority;
use crate::snapshot::GatewaySnapshot;
use crate::tls::TlsSettings;

/// What one change of the policy did.
#[derive(Debug)]
pub struct ReloadReport {
    /// The generation that is in force now.
    pub generation: u64,
    /// What changed.
    pub changes: Vec<PolicyChange>,
    /// How long it took to put them in force.
    pub took: Duration,
    /// The connections whose permit was revoked.
    pub revoked: RevokedConnections,
    /// How those are to end, and how long they may take if they are drained.
    pub on_revoke: (OnRevoke, Duration),
}

impl Gateway {
    /// Reads the policy again, and all that it names, and puts the difference in force. Whatever is
    /// wrong with any of it, nothing changes.
    ///
    /// What is added is there before anybody may be granted it, what is removed goes after nobody
    /// can be; a connection sees the one generation or the other. Call it from one thread at a time.
    ///
    /// `are_unchanged` is asked once everything is read: what was written to meanwhile may be torn.
    pub fn reload(
        &self,
        path: &Path,
        are_unchanged: impl FnOnce() -> bool,
    ) -> Result<ReloadReport, LoadError> {
        let before = self.snapshot();
        // Only this: the workers' and the main loop's locks are not taken at a low priority.
        let read = priority::lowest(|| LoadedPolicy::read_next(path, &before));
        let (next, changes) = read.map_err(LoadError::Thread)??;
        let (policy, tls) = next.into_parts();
        if !are_unchanged() {
            return Err(LoadError::Changing);
        }
        self.put_in_force(&before, policy, changes, Arc::new(tls))
    }

    /// Puts what was read in force, unless something is in its way.
    pub(super) fn put_in_force(
        &self,
        before: &GatewaySnapshot,
        policy: Policy,
        changes: Vec<PolicyChange>,
        tls: Arc<TlsSettings>,
    ) -> Result<ReloadReport, LoadError> {
        let trust_changed = !before.tls().trust().is_the_same(tls.trust());
        let addresses = policy.gateway().listen.clone();
        let mut listeners = self.listeners.lock();
        if listeners.are_handed_over() {
            return Err(LoadError::HandingOver);
        }
        let bound = listeners.bind(policy.gateway(), &mut InheritedListeners::default())?;
        let start = Instant::now();
        let next = Arc::new(before.next(policy, &changes, tls, &self.balancer));
        self.snapshot.store(Arc::clone(&next));
        self.connections.notify_changed();
        GatewaySnapshot::retire(&changes, &self.balancer);
        listeners.open(bound, &addresses);
        match self.steering.lock().as_mut() {
            Some(steered) => steered.apply(next.policy()),
            None if next.policy().bindings().is_empty() || listeners.are_disabled() => {}
            None => tracing::warn!("steering is not active; `steer` applies at the next start"),
        }
        if next.policy().gateway().workers != before.policy().gateway().workers {
            tracing::warn!("`workers` applies at the next start or upgrade");
        }
        let took = start.elapsed();
        let revoked = self
            .connections
            .revoked(&next, trust_changed, UnixTime::now());
        let gateway = next.policy().gateway();
        let on_revoke = (gateway.on_revoke, gateway.timeouts.drain);
        let generation = next.generation();
        Ok(ReloadReport {
            generation,
            changes,
            took,
            revoked,
            on_revoke,
        })
    }
}
