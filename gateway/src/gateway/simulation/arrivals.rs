//! Arrivals and departures of clients.

use std::sync::Arc;

use lb::UpstreamHealth;
use policy::{Destination, OnRevoke};
use rustls_pki_types::UnixTime;
use tokio::time::Instant;

use super::process::{Arrival, Connection, Waiting};
use super::rules::{WAIT, waits};
use super::world::World;
use super::{CLIENTS, GROUPS, poll};
use crate::admission_wait::AdmissionWait;
use crate::client_identity::Identity;
use crate::credentials::{PermitCheck, is_trusted};
use crate::expiry::certificate_ended;
use crate::rejection::Rejection;

impl Connection {
    /// Returns true if it must end because its permit was revoked.
    pub(super) fn is_cut(&self) -> bool {
        let mut revoked = Box::pin(self.guard.revoked());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        revoked.as_mut().poll(&mut context).is_ready()
    }
}

impl World<'_> {
    /// Adds a client that has authenticated itself.
    pub(super) fn arrive(&mut self) {
        let last = self.processes.len() - 1;
        let is_at_the_old = self.is_taking_over && self.random.percent(50);
        let index = last - usize::from(is_at_the_old);
        let (client, group) = (self.random.below(CLIENTS), self.random.below(GROUPS));
        let places = self.slots(index);
        let process = &mut self.processes[index];
        let Some(stay) = process.gateway.drain().enter() else {
            return;
        };
        let snapshot = process.gateway.snapshot();
        let certificate = &self.files.certificates[client];
        let is_trusted = is_trusted(
            std::slice::from_ref(certificate),
            &snapshot,
            PermitCheck::WithChain(UnixTime::now()),
        );
        let sni = Some(format!("g{group}"));
        let identity = Identity::of(certificate).unwrap();
        let permit = snapshot.authorize(identity, &Destination { sni, port: 1 });
        let permit = permit.ok().filter(|_| is_trusted);
        assert_eq!(permit.is_some(), process.rules.allow(client, group));
        let Some(permit) = permit else { return };
        let slot = process
            .gateway
            .shared()
            .limits()
            .take_connection_slot(&snapshot.policy().gateway().limits);
        if self.is_quiet {
            assert_eq!(slot.is_ok(), places < process.rules.slots, "{places} slots");
        }
        let Ok(slot) = slot else { return };
        let (limit, number) = (
            process.rules.limit(client),
            process.gateway.recorder().number(),
        );
        process.arrivals.push(Arrival {
            client,
            group,
            number,
            limit,
            most: limit,
            waiting: Waiting::Before(Box::new(permit)),
            patience: Instant::now(),
            is_denied: false,
            slot,
            stay,
        });
        self.note(format!(
            "client {client} arrives for group {group} at process {index}"
        ));
    }

    /// Lets one of the arrivals ask for its slot.
    pub(super) fn ask(&mut self) {
        let index = self.random.below(self.processes.len());
        let arrivals = &self.processes[index].arrivals;
        let waits = |one: &&Arrival| matches!(one.waiting, Waiting::Before(_));
        let Some(number) = arrivals.iter().find(waits).map(|one| one.number) else {
            return;
        };
        // One that is admitted after the drain's deadline ends at once.
        let is_cut_off = self.processes[index]
            .gateway
            .drain()
            .cutoff()
            .is_cancelled();
        let is_quiet = self.is_quiet && !is_cut_off;
        let expected = self.is_let_in(index, number);
        let process = &mut self.processes[index];
        let gateway = Arc::clone(&process.gateway);
        let arrival = process.arrivals.iter_mut().find(|one| one.number == number);
        let arrival = arrival.unwrap();
        let client = arrival.client;
        let chain = vec![self.files.certificates[client].clone()];
        let asked = Waiting::Asked(Box::pin(std::future::pending()));
        let Waiting::Before(permit) = std::mem::replace(&mut arrival.waiting, asked) else {
            unreachable!("it was just found to wait");
        };
        let entering = async move {
            let mut wait = AdmissionWait::default();
            gateway
                .shared()
                .admit(number, *permit, chain, &mut wait)
                .await
        };
        arrival.waiting = Waiting::Asked(Box::pin(entering));
        arrival.patience = Instant::now() + WAIT;
        self.is_quiet = false;
        self.note(format!(
            "client {client} asks for its slot in process {index}"
        ));
        if is_quiet && self.random.percent(50) {
            self.flush();
            let connections = &self.processes[index].connections;
            let is_in = connections.iter().any(|one| one.number == number);
            assert_eq!(is_in, expected, "whether client {client} is let in");
        } else if self.random.percent(50) {
            self.settle(index);
        }
    }

    /// Returns true if an arrival must be admitted, provided that no message is under way.
    fn is_let_in(&self, index: usize, number: u64) -> bool {
        let last = self.processes.len() - 1;
        let arrivals = &self.processes[index].arrivals;
        let arrival = arrivals.iter().find(|one| one.number == number).unwrap();
        let (client, group) = (arrival.client, arrival.group);
        let mut deciding = self.processes[index..].iter();
        // A client that waits is subject to the rules that are in force.
        let now = self.processes[last].rules.limit(client);
        let is_ending = self.processes[last].gateway.drain().is_begun();
        let limit = match index == last {
            true if waits(client) && !is_ending => arrival.limit.max(now),
            true => arrival.limit,
            false => now,
        };
        // No client overtakes those that wait.
        let ahead = self.total(last, client) + self.waiting(last, client);
        deciding.all(|one| one.rules.allow(client, group)) && ahead < limit
    }

    /// Admits the arrivals that have their answer.
    pub(super) fn settle(&mut self, index: usize) {
        let arrivals = std::mem::take(&mut self.processes[index].arrivals);
        let mut waiting = Vec::new();
        for mut arrival in arrivals {
            let limits = self
                .processes
                .iter()
                .map(|one| one.rules.limit(arrival.client));
            arrival.most = limits.fold(arrival.most, u32::max);
            let answer = match &mut arrival.waiting {
                Waiting::Before(_) => None,
                Waiting::Asked(entering) => poll(entering),
            };
            match answer {
                None => waiting.push(arrival),
                Some(Err(Rejection::Revoked | Rejection::Limited(_))) => self.is_quiet = false,
                Some(Err(other)) => panic!("{other}"),
                Some(Ok(guard)) => {
                    self.is_quiet = false;
                    self.let_in(index, arrival, guard);
                }
            }
        }
        self.processes[index].arrivals = waiting;
    }

    fn let_in(
        &mut self,
        index: usize,
        arrival: Arrival,
        guard: crate::connection_table::ConnectionGuard,
    ) {
        let (client, group, most) = (arrival.client, arrival.group, arrival.most);
        let rules = &self.processes[index].rules;
        assert!(
            rules.allow(client, group),
            "client {client} enters, but is denied"
        );
        // What newer processes deny they have denied meanwhile.
        let following = self.processes[index + 1..].iter();
        let denied = following.filter(|one| !one.rules.allow(client, group));
        let due: Vec<_> = denied
            .filter_map(|one| Some((one.id, one.end_of_denied()?)))
            .collect();
        self.processes[index].connections.push(Connection {
            client,
            group,
            number: arrival.number,
            lease: None,
            guard,
            _slot: arrival.slot,
            _stay: arrival.stay,
            certificate: None,
            is_denied: arrival.is_denied || !due.is_empty(),
            due,
        });
        self.note(format!("client {client} is in, in process {index}"));
        let total = self.total(self.processes.len() - 1, client);
        assert!(
            total <= most,
            "client {client} has {total} connections, but may have {most}"
        );
    }

    /// Returns a random connection's position, and its process.
    fn any_connection(&mut self) -> Option<(usize, usize)> {
        let index = self.random.below(self.processes.len());
        let count = self.processes[index].connections.len();
        (count > 0).then(|| (index, self.random.below(count)))
    }

    /// Gives a connection its upstream.
    pub(super) fn dial(&mut self) {
        let Some((index, which)) = self.any_connection() else {
            return;
        };
        let connection = &mut self.processes[index].connections[which];
        if connection.lease.is_some() {
            return;
        }
        let group = Arc::clone(connection.guard.permit().upstreams());
        let Ok(lease) = group.lease(&[]) else { return };
        let statuses = group.upstreams();
        let leased = statuses.iter().find(|one| one.address == lease.address());
        assert_eq!(leased.unwrap().health, UpstreamHealth::Up);
        connection.guard.dialed(lease.address());
        connection.lease = Some(lease);
        self.is_quiet = false;
    }

    /// Ends a connection, or the wait of an arrival.
    pub(super) fn leave(&mut self) {
        if self.random.percent(20) {
            let index = self.random.below(self.processes.len());
            let arrivals = &mut self.processes[index].arrivals;
            if !arrivals.is_empty() {
                let one = arrivals.remove(self.random.below(arrivals.len()));
                self.is_quiet = false;
                self.note(format!(
                    "client {} no longer waits in process {index}",
                    one.client
                ));
            }
        } else if let Some((index, which)) = self.any_connection() {
            let one = self.processes[index].connections.swap_remove(which);
            self.is_quiet = false;
            self.note(format!("client {} leaves process {index}", one.client));
        }
    }

    /// Ends the certificate of a connection's client.
    pub(super) fn certificate_ends(&mut self) {
        let Some((index, which)) = self.any_connection() else {
            return;
        };
        let process = &mut self.processes[index];
        let end = process.end_of_denied();
        let on_revoke = (process.rules.on_revoke, super::rules::DRAIN);
        let connection = &mut process.connections[which];
        if connection.certificate.is_some() {
            return;
        }
        let past = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1));
        let ended = certificate_ended(Some(past), connection.number, move || on_revoke);
        let mut ended: super::Task<()> = Box::pin(ended);
        let at_once = poll(&mut ended).is_some();
        assert!(!at_once || connection.number.is_multiple_of(100) && on_revoke.0 == OnRevoke::Cut);
        connection.due.extend(end.map(|end| (process.id, end)));
        let client = connection.client;
        if at_once {
            process.connections.swap_remove(which);
        } else {
            connection.certificate = Some(ended);
        }
        self.is_quiet = false;
        self.note(format!(
            "the certificate of client {client} ends in process {index}"
        ));
    }
}
