//! Reload: the change to the next generation of the policy and of all that it names.

use std::time::{Duration, Instant};

use host::inherited_listeners::InheritedListeners;
use policy::{OnRevoke, PolicyChange};
use rustls_pki_types::UnixTime;
use thiserror::Error;

use super::Gateway;
use crate::connection_table::RevokedConnections;
use crate::credentials::PermitCheck;
use crate::listeners::ListenError;
use crate::loaded_policy::NextPolicy;
use crate::steering;

/// Reason why a policy was not put in force. The policy that was in force stays in force; another
/// attempt with the same policy may succeed.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The gateway cannot listen on an address of the policy.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Another process is just taking over, and has read the policy already.
    #[error("an upgrade is in progress")]
    HandingOver,
}

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
    /// Puts a policy in force that was read to follow the one in force now. A connection sees the
    /// one generation or the other: a group that is added exists before a client can be granted it,
    /// and one that is removed goes only when no client can be granted it any more. Call it from
    /// one thread at a time.
    ///
    /// # Errors
    ///
    /// An address cannot be bound, or a handover is under way. Nothing has changed then.
    pub fn apply(&self, next: NextPolicy) -> Result<ReloadReport, ApplyError> {
        let before = self.snapshot();
        let check = if before.tls().trust().is_the_same(next.tls.trust()) {
            PermitCheck::PolicyOnly
        } else {
            PermitCheck::WithChain(UnixTime::now())
        };
        let mut listeners = self.listeners.lock();
        if listeners.are_handed_over() {
            return Err(ApplyError::HandingOver);
        }
        let bound = listeners.bind(next.policy.gateway(), &mut InheritedListeners::default())?;
        let start = Instant::now();
        let changes = next.changes;
        let next = self.shared.replace_policy(next.policy, &changes, next.tls);
        listeners.open(bound, &next.policy().gateway().listen);
        match self.steering.lock().as_mut() {
            Some(steered) => steered.apply(next.policy()),
            None if steering::bindings(next.policy()).is_empty() || listeners.are_disabled() => {}
            None => tracing::warn!("steering is not active; `steer` applies at the next start"),
        }
        if next.policy().gateway().workers != before.policy().gateway().workers {
            tracing::warn!("`workers` applies at the next start or upgrade");
        }
        let took = start.elapsed();
        let revoked = self.shared.connections().revoked(&next, check);
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
