//! Reload: the change to the next generation of the policy and of all that it names.

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

/// Report of one reload.
#[derive(Debug)]
pub struct ReloadReport {
    /// The generation that is in force now.
    pub generation: u64,
    /// The changes of the policy.
    pub changes: Vec<PolicyChange>,
    /// Time that it took to put them in force, without reading and binding.
    pub took: Duration,
    /// The connections whose permit was revoked. They are ended by [`RevokedConnections::end`].
    pub revoked: RevokedConnections,
    /// The policy's `on_revoke`, and the time that those may take if they are drained.
    pub on_revoke: (OnRevoke, Duration),
}

impl Gateway {
    /// Reads the policy again, and all files that it names, and puts the difference in force. A
    /// connection sees the one generation or the other: a group that is added exists before a
    /// client can be granted it, and one that is removed goes only when no client can be granted it
    /// any more. Call it from one thread at a time.
    ///
    /// `are_unchanged` is called once everything is read: files that were written meanwhile may be
    /// incomplete.
    ///
    /// # Errors
    ///
    /// The files cannot be read or are not valid, changed meanwhile ([`LoadError::Changing`]), an
    /// address cannot be bound, or a handover is under way ([`LoadError::HandingOver`]). Nothing
    /// has changed then.
    pub fn reload(
        &self,
        path: &Path,
        are_unchanged: impl FnOnce() -> bool,
    ) -> Result<ReloadReport, LoadError> {
        let before = self.snapshot();
        // Only this part: the locks of the workers and of the main loop are not taken at a low
        // priority.
        let read = priority::lowest(|| LoadedPolicy::read_next(path, &before));
        let (next, changes) = read.map_err(LoadError::Thread)??;
        let (policy, tls) = next.into_parts();
        if !are_unchanged() {
            return Err(LoadError::Changing);
        }
        self.put_in_force(&before, policy, changes, Arc::new(tls))
    }

    /// Puts the policy that was read in force, unless a handover is under way or an address cannot
    /// be bound.
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
