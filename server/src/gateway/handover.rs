//! What one process of a gateway hands to the next: listeners, what it knows, whom it counts.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use lb::{Admission, ClientLimits, Health, Name};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::Gateway;
use crate::credentials::Shown;
use crate::inherited::Purpose;
use crate::live::{Adopted, Cut, Elsewhere, Holder};
use crate::rejection::Rejection;
use crate::running::Permit;
use crate::settings;
use crate::steer::Steered;
use crate::succession::heir::Heir;
use crate::succession::message::{Carried, Known};

/// A client that wants to come in.
struct Arrival<'a> {
    connection: u64,
    client: &'a Name,
    group: &'a str,
    limits: ClientLimits,
    shown: Option<Shown>,
}

impl Gateway {
    /// Lets a client in, if its limits allow it: those of this process and of the others that serve the
    /// gateway's clients together. A revision that came into force since the permit was given decides too.
    pub(crate) async fn enter(
        &self,
        connection: u64,
        permit: Permit,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<Holder, Rejection> {
        let limits = settings::client(permit.client());
        let client = Arc::clone(permit.identity().name().shared());
        let group = Arc::clone(&permit.group().name);
        let arrival = Arrival {
            connection,
            client: &client,
            group: &group,
            limits,
            shown: None,
        };
        let arrival = Arrival {
            // Only another process asks for it.
            shown: self
                .live
                .heir()
                .as_ref()
                .and_then(|_| Shown::of(&permit, &chain)),
            ..arrival
        };
        let entered = |admission| self.live.enter(connection, permit, chain, admission);
        let holder = self.admitted(arrival, entered).await?;
        // From here on a revision finds it in the table.
        if holder.still_holds(&self.running(), UnixTime::now()) {
            Ok(holder)
        } else {
            Err(Rejection::Lapsed)
        }
    }

    /// Lets a client of an older process in, as its limits are here.
    pub(crate) async fn enter_elsewhere(
        &self,
        arrived: &Carried,
        cut: &Cut,
    ) -> Result<u64, Rejection> {
        let running = self.running();
        let client = arrived.client.as_str();
        let known = running.policy().client(client).ok_or(Rejection::Lapsed)?;
        let credentials = arrived.shown.as_ref().and_then(Shown::read);
        if credentials
            .is_some_and(|shown| !shown.hold(&running, &arrived.group, Some(UnixTime::now())))
        {
            return Err(Rejection::Lapsed);
        }
        let connection = self.recorder.number();
        let arrival = Arrival {
            connection,
            client: &client.into(),
            group: &arrived.group,
            limits: settings::client(known),
            shown: arrived.shown.clone(),
        };
        let entered = |admission| self.adopt(connection, admission, arrived, cut);
        self.admitted(arrival, entered)
            .await?
            .ok_or(Rejection::GatewayFull)?;
        // A revision that came into force meanwhile may have missed it.
        let latest = self.running();
        if latest.generation() != running.generation() {
            self.live.cut_lapsed(connection, &latest);
        }
        Ok(connection)
    }

    /// Admits a client here or where clients are counted now, and enters it in the same moment.
    async fn admitted<T>(
        &self,
        arrival: Arrival<'_>,
        enter: impl FnOnce(Admission) -> T,
    ) -> Result<T, Rejection> {
        let Arrival {
            connection,
            client,
            group,
            limits,
            shown,
        } = arrival;
        let mut admitted_by: Option<Arc<Heir>> = None;
        loop {
            let heir = {
                let heir = self.live.heir();
                match (&*heir, &admitted_by) {
                    (None, _) => {
                        let admission = self.balancer.admit(client, &limits);
                        return Ok(enter(admission.map_err(Rejection::Limited)?));
                    }
                    (Some(heir), Some(by)) if Arc::ptr_eq(heir, by) => {
                        let entered = enter(self.balancer.limiter().adopt(client));
                        self.cut_if_denied(connection, by);
                        return Ok(entered);
                    }
                    (Some(heir), _) => Arc::clone(heir),
                }
            };
            // Without an answer nobody counts there any more, and soon it is said who does.
            if let Some(verdict) = heir.ask(connection, client, group, shown.clone()).await {
                verdict.into_result()?;
                admitted_by = Some(heir);
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Ends a connection that has just entered, if the process that let it in has denied it meanwhile.
    fn cut_if_denied(&self, connection: u64, by: &Heir) {
        if by.has_entered(connection) {
            self.live.cut_entered(connection);
        }
    }

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

    fn adopt(
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
