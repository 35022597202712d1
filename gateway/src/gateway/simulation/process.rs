//! One process of the gateway, and its messages to and from the next.

use std::sync::Arc;
use std::time::Duration;

use lb::{DrainGuard, Drained, Lease, UpstreamHealth};
use policy::{OnRevoke, Policy};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::rules::{Files, Rules};
use super::{CLIENTS, GROUPS, Random, Task, poll};
use crate::connection_table::ConnectionGuard;
use crate::gateway::Gateway;
use crate::limits::ConnectionSlot;
use crate::loaded_policy::LoadedPolicy;
use crate::pending_reload::PendingReload;
use crate::rejection::Rejection;
use crate::remote_admission::RemoteAdmission;
use crate::remote_connections::RemoteConnections;
use crate::snapshot::Permit;

/// A client that has authenticated itself.
pub(super) struct Arrival {
    pub(super) client: usize,
    pub(super) group: usize,
    pub(super) number: u64,
    /// Number of connections that it may have by its permit.
    pub(super) limit: u32,
    /// The highest limit that it had by any process's rules since it asked to be admitted.
    pub(super) most: u32,
    pub(super) waiting: Waiting,
    /// Times by which it must have ended, each with the process that requires it.
    pub(super) patience: Instant,
    /// True if a newer process has denied it meanwhile.
    pub(super) is_denied: bool,
    pub(super) slot: ConnectionSlot,
    pub(super) stay: DrainGuard,
}

/// The state of an arrival.
pub(super) enum Waiting {
    /// It has not asked for its slot yet.
    Before(Box<Permit>),
    /// It waits for the answer.
    Asked(Task<Result<ConnectionGuard, Rejection>>),
}

/// An admitted connection of a client.
pub(super) struct Connection {
    pub(super) client: usize,
    pub(super) group: usize,
    pub(super) number: u64,
    pub(super) lease: Option<Lease>,
    pub(super) guard: ConnectionGuard,
    pub(super) _slot: ConnectionSlot,
    pub(super) _stay: DrainGuard,
    /// Task that is ready when it must end because its certificate has ended.
    pub(super) certificate: Option<Task<()>>,
    /// True if a process has ever denied it, or may have.
    pub(super) is_denied: bool,
    /// Times by which it must have ended, each with the process that requires it.
    pub(super) due: Vec<(usize, Instant)>,
}

/// The old process's side of the connection to the new one.
pub(super) struct Link {
    pub(super) remote_admission: Arc<RemoteAdmission>,
    /// Task that delivers the old process's messages to the new one, and its answers.
    carries: Task<()>,
    cuts: UnboundedReceiver<u64>,
}

pub(super) struct Process {
    pub(super) id: usize,
    pub(super) gateway: Arc<Gateway>,
    /// The rules in force, by the model.
    pub(super) rules: Rules,
    pub(super) debt: PendingReload,
    pub(super) arrivals: Vec<Arrival>,
    pub(super) connections: Vec<Connection>,
    /// Tasks that end connections whose permits were revoked.
    pub(super) endings: Vec<Task<()>>,
    pub(super) drained: Option<Task<Drained>>,
    pub(super) link: Option<Link>,
    /// For each group, true if it was ever removed here: leases of a removed group are counted in
    /// an object that the model does not see.
    pub(super) removed: [bool; GROUPS],
}

impl Process {
    pub(super) fn new(id: usize, files: &Files, rules: &Rules, generation: u64) -> Self {
        let policy = Policy::parse("policy", &rules.text()).unwrap();
        let recorder = Arc::clone(&files.recorder);
        let loaded = LoadedPolicy::new(policy, files.tls(rules));
        let gateway = Gateway::after_generation(loaded, recorder, generation);
        gateway.listeners.lock().disable();
        Self {
            id,
            gateway,
            rules: rules.clone(),
            debt: PendingReload::default(),
            arrivals: Vec::new(),
            connections: Vec::new(),
            endings: Vec::new(),
            drained: None,
            link: None,
            removed: rules.without(),
        }
    }

    /// Hands this process's connections to another, as
    /// an upgrade does.
    pub(super) fn link_to(&mut self, next: &Self) -> usize {
        let (remote_admission, mut told) = RemoteAdmission::new();
        let (mut remote, cuts) = RemoteConnections::new();
        let states = self
            .gateway
            .shared()
            .connections()
            .admit_remotely(Arc::clone(&remote_admission));
        for one in &states {
            remote.insert(next.gateway.shared(), one);
        }
        let (shared, answers) = (
            Arc::clone(next.gateway.shared()),
            Arc::downgrade(&remote_admission),
        );
        let carrying = async move {
            loop {
                let answer = tokio::select! {
                    biased;
                    answer = remote.decided() => answer,
                    event = told.recv() => match event {
                        Some(event) => {
                            remote.handle(&shared, event);
                            continue;
                        }
                        None => break,
                    },
                };
                if let Some(remote_admission) = answers.upgrade() {
                    remote_admission.answer(answer);
                }
            }
            remote.release_all(&shared);
        };
        self.link = Some(Link {
            remote_admission,
            carries: Box::pin(carrying),
            cuts,
        });
        states.len()
    }

    /// Handles the loss of the new process, as an upgrade does.
    pub(super) fn unlink(&mut self) {
        let Link {
            remote_admission,
            carries,
            ..
        } = self.link.take().unwrap();
        self.gateway.shared().connections().admit_locally();
        drop(carries);
        remote_admission.close();
    }

    /// Ends this process and delivers that to the new one.
    pub(super) fn end(mut self) {
        let Some(Link {
            remote_admission,
            mut carries,
            ..
        }) = self.link.take()
        else {
            return;
        };
        drop(self);
        drop(remote_admission);
        assert!(
            poll(&mut carries).is_some(),
            "somebody still talks for a process that is gone"
        );
    }

    /// Delivers the messages in both directions.
    pub(super) fn exchange(&mut self) {
        let Some(link) = &mut self.link else { return };
        assert!(poll(&mut link.carries).is_none());
        while let Ok(connection) = link.cuts.try_recv() {
            self.gateway.shared().connections().end(connection);
        }
    }

    /// Sets some upstreams of unknown health up or down.
    pub(super) fn probe(&self, random: &mut Random) {
        for group in self.gateway.shared().balancer().groups() {
            for upstream in group.upstreams() {
                if upstream.health == UpstreamHealth::Unknown && random.percent(60) {
                    let found = [UpstreamHealth::Up, UpstreamHealth::Up, UpstreamHealth::Down]
                        [random.below(3)];
                    group.assume(upstream.address, found);
                }
            }
        }
    }

    /// Returns the number of connections that each client has here.
    pub(super) fn count(&self) -> [u32; CLIENTS] {
        let mut count = [0; CLIENTS];
        for connection in &self.connections {
            count[connection.client] += 1;
        }
        count
    }

    /// Returns the time by which a connection that this process denies must have ended; `None` if
    /// it may stay.
    pub(super) fn end_of_denied(&self) -> Option<Instant> {
        let wait = match self.rules.on_revoke {
            OnRevoke::Cut => Duration::ZERO,
            OnRevoke::Drain => super::rules::DRAIN,
            OnRevoke::Keep => return None,
        };
        Some(Instant::now() + wait + crate::expiry::END_SPREAD)
    }
}
