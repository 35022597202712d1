//! Handover from one process of a gateway to the next: listeners, health of upstreams, and the
//! counting of connections.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use lb::{ClientSlot, UpstreamHealth};

use super::Gateway;
use crate::connection_event::ConnectionState;
use crate::connection_table::{EndRequests, RemoteConnection, RemoteDetails};
use crate::credentials::CredentialsMessage;
use crate::inherited_listeners::ListenerPurpose;
use crate::known_health::KnownHealth;
use crate::steering::ActiveSteering;

impl Gateway {
    /// Counts a connection that an older process has, whatever the limits say. Returns its number
    /// in this process.
    pub(crate) fn count_remote(&self, state: &ConnectionState, cut: &EndRequests) -> Option<u64> {
        let connection = self.recorder.number();
        let _remote_admission = self.connections.remote_admission();
        let client = self
            .balancer
            .limiter()
            .admit_unlimited(&state.client.as_str().into());
        self.insert_remote(connection, client, state, cut)?;
        Some(connection)
    }

    pub(super) fn insert_remote(
        &self,
        connection: u64,
        client: ClientSlot,
        state: &ConnectionState,
        cut: &EndRequests,
    ) -> Option<()> {
        let known = self.balancer.group(&state.group);
        let remote = RemoteConnection {
            client,
            upstream: known
                .zip(state.upstream)
                .map(|(group, upstream)| group.adopt(upstream)),
            details: Arc::new(RemoteDetails {
                group: state.group.as_str().into(),
                credentials: state
                    .credentials
                    .as_ref()
                    .and_then(CredentialsMessage::read),
                end_requests: cut.clone(),
                connection: state.connection,
            }),
            _slot: self.limits.take_remote_slot()?,
        };
        self.connections.insert_remote(connection, remote);
        Some(())
    }

    /// Notes that a connection of an older process has reached its upstream.
    pub(crate) fn remote_dialed(&self, connection: u64, upstream: SocketAddr) {
        self.connections
            .remote_dialed(connection, upstream, |group| {
                Some(self.balancer.group(group)?.adopt(upstream))
            });
    }

    /// Returns the health of all upstreams of which it is known.
    pub(crate) fn upstream_health(&self) -> Vec<KnownHealth> {
        let mut known = Vec::new();
        for group in self.balancer.groups() {
            known.extend(group.upstreams().iter().filter_map(|upstream| {
                let is_up = match upstream.health {
                    UpstreamHealth::Up => true,
                    UpstreamHealth::Down => false,
                    UpstreamHealth::Unknown => return None,
                };
                Some(KnownHealth {
                    group: group.name().to_string(),
                    upstream: upstream.address,
                    is_up,
                })
            }));
        }
        known
    }

    /// Adopts the health of an upstream that an older process reports, unless it is known here
    /// already.
    pub(crate) fn assume_health(&self, known: &KnownHealth) {
        if let Some(group) = self.balancer.group(&known.group) {
            group.assume(known.upstream, known.health());
        }
    }

    /// Returns copies of the listeners for another process, and true if this gateway unloads the
    /// steering programs at its end ([`ActiveSteering::is_own`]).
    pub(crate) fn listeners(&self) -> io::Result<(Vec<(ListenerPurpose, OwnedFd)>, bool)> {
        let listeners = self.listeners.lock();
        let steered = self.steering.lock();
        let mut all = listeners
            .listeners()
            .map(|(purpose, listener)| Ok((purpose, listener.try_clone_to_owned()?)))
            .collect::<io::Result<Vec<_>>>()?;
        if let Some(steered) = &*steered {
            all.push((
                ListenerPurpose::Anchor,
                steered.anchor().try_clone_to_owned()?,
            ));
        }
        let is_own = steered.as_ref().is_some_and(ActiveSteering::is_own);
        Ok((all, is_own))
    }

    /// Begins a handover: the policy is not reloaded while another process takes over. Returns
    /// false, and changes nothing, if the generation in force is not `generation` any more.
    pub(crate) fn begin_handover(&self, generation: u64) -> bool {
        let mut listeners = self.listeners.lock();
        let is_the_same = self.snapshot().generation() == generation;
        if is_the_same {
            listeners.set_handed_over(true);
        }
        is_the_same
    }

    /// Ends a handover, after the other process has begun to serve or has failed.
    pub(crate) fn end_handover(&self) {
        self.listeners.lock().set_handed_over(false);
    }

    /// Leaves steering to another process.
    pub(crate) fn release_steering(&self) {
        if let Some(steered) = self.steering.lock().as_mut() {
            steered.release();
        }
    }

    /// Takes steering back from a process that has failed.
    pub(crate) fn restore_steering(&self) {
        if let Some(steered) = self.steering.lock().as_mut() {
            steered.restore(self.snapshot().policy());
        }
    }

    /// Forgets steering without a change in the kernel, where another process has the role now.
    pub(crate) fn forget_steering(&self) {
        drop(self.steering.lock().take());
    }
}

#[cfg(test)]
mod tests;
