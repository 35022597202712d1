//! One process of the gateway, and what goes to and fro between it and the next.

use std::sync::Arc;
use std::time::Duration;

use lb::{DrainGuard, Drained, Lease, UpstreamHealth};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::rules::{Files, Rules};
use super::{CLIENTS, GROUPS, Random, Task, poll};
use crate::connection_table::ConnectionGuard;
use crate::gateway::Gateway;
use crate::limits::ConnectionSlot;
use crate::policy::{OnRevoke, Policy};
use crate::rejection::Rejection;
use crate::run::pending_reload::PendingReload;
use crate::snapshot::Permit;
use crate::upgrade::protocol::ToOldProcess;
use crate::upgrade::remote_admission::{AdmissionAnswer, RemoteAdmission};
use crate::upgrade::remote_connections::RemoteConnections;

/// A client that has authenticated itself.
pub(super) struct Arrival {
    pub(super) client: usize,
    pub(super) group: usize,
    pub(super) number: u64,
    /// How many connections it may have, as its permit says.
    pub(super) limit: u32,
    /// The most that it might have had by any process's rules since it asked to be admitted.
    pub(super) most: u32,
    pub(super) waiting: Waiting,
    /// When it must have its answer.
    pub(super) patience: Instant,
    /// Whether a newer process has denied it meanwhile.
    pub(super) is_denied: bool,
    pub(super) slot: ConnectionSlot,
    pub(super) stay: DrainGuard,
}

/// What an arrival waits for.
pub(super) enum Waiting {
    /// To ask for its place.
    Before(Box<Permit>),
    /// For the answer.
    Asked(Task<Result<ConnectionGuard, Rejection>>),
}

/// A client that is in.
pub(super) struct Connection {
    pub(super) client: usize,
    pub(super) group: usize,
    pub(super) number: u64,
    pub(super) lease: Option<Lease>,
    pub(super) guard: ConnectionGuard,
    pub(super) _slot: ConnectionSlot,
    pub(super) _stay: DrainGuard,
    /// Runs once its certificate has ended.
    pub(super) certificate: Option<Task<()>>,
    /// Whether a process has ever denied it, or may have.
    pub(super) is_denied: bool,
    /// When it must have ended, and which process wants that.
    pub(super) due: Vec<(usize, Instant)>,
}

/// What the old process has of the new one.
pub(super) struct Link {
    pub(super) remote_admission: Arc<RemoteAdmission>,
    /// Takes what the old process says to the new one, and brings the answers.
    carries: Task<()>,
    cuts: UnboundedReceiver<u64>,
}

pub(super) struct Process {
    pub(super) id: usize,
    pub(super) gateway: Arc<Gateway>,
    /// What is in force, by the model.
    pub(super) rules: Rules,
    pub(super) debt: PendingReload,
    pub(super) arrivals: Vec<Arrival>,
    pub(super) connections: Vec<Connection>,
    /// Ends connections whose permits were revoked.
    pub(super) endings: Vec<Task<()>>,
    pub(super) drained: Option<Task<Drained>>,
    pub(super) link: Option<Link>,
    /// Which groups were ever removed here: leases on them are counted where nobody sees them.
    pub(super) removed: [bool; GROUPS],
}

impl Process {
    pub(super) fn new(id: usize, files: &Files, rules: &Rules, generation: u64) -> Self {
        let policy = Policy::parse("policy", &rules.text()).unwrap();
        let recorder = Arc::clone(&files.recorder);
        let gateway = Gateway::with(policy, files.tls(rules), recorder, generation);
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

    /// Hands this process's connections to another, as [`crate::upgrade::CandidateProcess::hand_over`] does.
    pub(super) fn link_to(&mut self, next: &Self) -> usize {
        let (remote_admission, mut told) = RemoteAdmission::new();
        let (mut remote, cuts) = RemoteConnections::new();
        let states = self
            .gateway
            .connections
            .admit_remotely(Arc::clone(&remote_admission));
        for one in &states {
            remote.insert(&next.gateway, one);
        }
        let (gateway, answers) = (Arc::clone(&next.gateway), Arc::downgrade(&remote_admission));
        let carrying = async move {
            loop {
                let answer = tokio::select! {
                    biased;
                    answer = remote.decided() => answer,
                    message = told.recv() => match message {
                        Some(message) => {
                            remote.handle(&gateway, message);
                            continue;
                        }
                        None => break,
                    },
                };
                if let ToOldProcess::Verdict {
                    connection,
                    verdict,
                    waited,
                } = answer
                    && let Some(remote_admission) = answers.upgrade()
                {
                    remote_admission.answer(connection, AdmissionAnswer { verdict, waited });
                }
            }
            remote.release_all(&gateway);
        };
        self.link = Some(Link {
            remote_admission,
            carries: Box::pin(carrying),
            cuts,
        });
        states.len()
    }

    /// The new process is gone, as [`crate::upgrade::ConnectionReports::run`] sees it.
    pub(super) fn unlink(&mut self) {
        let Link {
            remote_admission,
            carries,
            ..
        } = self.link.take().unwrap();
        self.gateway.connections.admit_locally();
        drop(carries);
        remote_admission.close();
    }

    /// Takes this process's end to the new one.
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

    /// Has what was said arrive at the other side.
    pub(super) fn exchange(&mut self) {
        let Some(link) = &mut self.link else { return };
        assert!(poll(&mut link.carries).is_none());
        while let Ok(connection) = link.cuts.try_recv() {
            self.gateway.connections.end(connection);
        }
    }

    /// Lets the upstreams of which nothing is known be found up, or down.
    pub(super) fn probe(&self, random: &mut Random) {
        for group in self.gateway.balancer.groups() {
            for upstream in group.upstreams() {
                if upstream.health == UpstreamHealth::Unknown && random.percent(60) {
                    let found = [UpstreamHealth::Up, UpstreamHealth::Up, UpstreamHealth::Down]
                        [random.below(3)];
                    group.assume(upstream.address, found);
                }
            }
        }
    }

    /// How many connections each client has here.
    pub(super) fn count(&self) -> [u32; CLIENTS] {
        let mut count = [0; CLIENTS];
        for connection in &self.connections {
            count[connection.client] += 1;
        }
        count
    }

    /// When a connection that this process denies must have ended; `None` if it may stay.
    pub(super) fn end_of_denied(&self) -> Option<Instant> {
        let wait = match self.rules.on_revoke {
            OnRevoke::Cut => Duration::ZERO,
            OnRevoke::Drain => super::rules::DRAIN,
            OnRevoke::Keep => return None,
        };
        Some(Instant::now() + wait + crate::connection_table::END_SPREAD)
    }
}
