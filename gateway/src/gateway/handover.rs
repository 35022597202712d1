//! Handover from one process of a gateway to the next: listeners, health of upstreams, steering.

use std::io;
use std::os::fd::OwnedFd;

use host::inherited_listeners::ListenerPurpose;
use lb::UpstreamHealth;

use super::Gateway;
use crate::known_health::KnownHealth;
use crate::steering::ActiveSteering;

impl Gateway {
    /// Returns the health of all upstreams of which it is known.
    pub fn upstream_health(&self) -> Vec<KnownHealth> {
        let mut known = Vec::new();
        for group in self.shared.balancer().groups() {
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
    pub fn assume_health(&self, known: &KnownHealth) {
        if let Some(group) = self.shared.balancer().group(&known.group) {
            group.assume(known.upstream, known.health());
        }
    }

    /// Returns copies of the listeners for another process, and true if this gateway unloads the
    /// steering programs at its end (`ActiveSteering::is_own`).
    ///
    /// # Errors
    ///
    /// If the process has no file descriptor left.
    pub fn listeners(&self) -> io::Result<(Vec<(ListenerPurpose, OwnedFd)>, bool)> {
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
    pub fn begin_handover(&self, generation: u64) -> bool {
        let mut listeners = self.listeners.lock();
        let is_the_same = self.snapshot().generation() == generation;
        if is_the_same {
            listeners.begin_handover();
        }
        is_the_same
    }

    /// Ends a handover, after the other process has begun to serve or has failed.
    pub fn end_handover(&self) {
        self.listeners.lock().end_handover();
    }

    /// Leaves steering to another process.
    pub fn release_steering(&self) {
        if let Some(steered) = self.steering.lock().as_mut() {
            steered.release();
        }
    }

    /// Takes steering back from a process that has failed.
    pub fn restore_steering(&self) {
        if let Some(steered) = self.steering.lock().as_mut() {
            steered.restore(self.snapshot().policy());
        }
    }

    /// Forgets steering without a change in the kernel, where another process has the role now.
    pub fn forget_steering(&self) {
        drop(self.steering.lock().take());
    }
}

#[cfg(test)]
mod tests;
