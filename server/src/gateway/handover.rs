//! What one process of a gateway hands to the next: listeners, what it knows, whom it counts.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use lb::{Admission, Health};

use super::Gateway;
use crate::connection_table::{Adopted, Cut, Elsewhere};
use crate::credentials::Shown;
use crate::inherited_listeners::Purpose;
use crate::steering::Steered;
use crate::upgrade::protocol::{Carried, Known};

impl Gateway {
    /// Counts a connection that an older process has, whatever the limits say.
    pub(crate) fn take_over(&self, carried: &Carried, cut: &Cut) -> Option<u64> {
        let connection = self.recorder.number();
        let _heir = self.live.heir();
        let client = self
            .balancer
            .limiter()
            .adopt(&carried.client.as_str().into());
        self.adopt(connection, client, carried, cut)?;
        Some(connection)
    }

    pub(super) fn adopt(
        &self,
        connection: u64,
        client: Admission,
        carried: &Carried,
        cut: &Cut,
    ) -> Option<()> {
        let known = self.balancer.group(&carried.group);
        let adopted = Adopted {
            client,
            upstream: known
                .zip(carried.upstream)
                .map(|(group, upstream)| group.adopt(upstream)),
            elsewhere: Arc::new(Elsewhere {
                group: carried.group.as_str().into(),
                credentials: carried.shown.as_ref().and_then(Shown::read),
                cut: cut.clone(),
                connection: carried.connection,
            }),
            _slot: self.admission.adopt()?,
        };
        self.live.adopt(connection, adopted);
        Some(())
    }

    /// A connection of an older process has reached its upstream.
    pub(crate) fn dialed_elsewhere(&self, connection: u64, upstream: SocketAddr) {
        self.live.adopted_dialed(connection, upstream, |group| {
            Some(self.balancer.group(group)?.adopt(upstream))
        });
    }

    /// What the probes have found out.
    pub(crate) fn known_health(&self) -> Vec<Known> {
        let mut known = Vec::new();
        for group in self.balancer.groups() {
            known.extend(group.upstreams().iter().filter_map(|upstream| {
                let is_up = match upstream.health {
                    Health::Up => true,
                    Health::Down => false,
                    Health::Unknown => return None,
                };
                Some(Known {
                    group: group.name().to_string(),
                    upstream: upstream.address,
                    is_up,
                })
            }));
        }
        known
    }

    /// Believes what the probes of an older process have found out.
    pub(crate) fn assume(&self, known: &Known) {
        if let Some(group) = self.balancer.group(&known.group) {
            group.assume(known.upstream, known.health());
        }
    }

    /// The listeners, for another process to have too, and whether the kernel's half goes with the
    /// gateway.
    pub(crate) fn listeners(&self) -> io::Result<(Vec<(Purpose, OwnedFd)>, bool)> {
        let doors = self.doors.lock();
        let steered = self.steered.lock();
        let mut all = doors
            .listeners()
            .map(|(purpose, listener)| Ok((purpose, listener.try_clone_to_owned()?)))
            .collect::<io::Result<Vec<_>>>()?;
        if let Some(steered) = &*steered {
            all.push((Purpose::Handle, steered.handle().try_clone_to_owned()?));
        }
        let is_own = steered.as_ref().is_some_and(Steered::is_own);
        Ok((all, is_own))
    }

    /// Keeps the policy as it is while another process takes over, unless it is another by now than
    /// `generation`. Returns whether it is the same.
    pub(crate) fn begin_to_hand_over(&self, generation: u64) -> bool {
        let mut doors = self.doors.lock();
        let is_the_same = self.running().generation() == generation;
        if is_the_same {
            doors.hand_over(true);
        }
        is_the_same
    }

    /// The other process serves, or has failed.
    pub(crate) fn has_handed_over(&self) {
        self.doors.lock().hand_over(false);
    }

    /// Leaves the kernel's half to another process.
    pub(crate) fn give_way(&self) {
        if let Some(steered) = self.steered.lock().as_mut() {
            steered.leave();
        }
    }

    /// Takes the kernel's half back from a process that has failed.
    pub(crate) fn come_back(&self) {
        if let Some(steered) = self.steered.lock().as_mut() {
            steered.come_back(self.running().policy());
        }
    }

    /// Leaves the kernel as another process has it now.
    pub(crate) fn forget_steering(&self) {
        drop(self.steered.lock().take());
    }
}

#[cfg(test)]
mod tests;
