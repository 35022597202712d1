//! Upgrades: processes replace one another.

use rustls_pki_types::UnixTime;

use super::poll;
use super::process::Process;
use super::world::World;
use crate::credentials::PermitCheck;

/// Maximum number of processes at a time.
const PROCESSES: usize = 3;

impl World<'_> {
    /// Starts a new process, which reads the policy.
    pub(super) fn begin_upgrade(&mut self) {
        let last = self.processes.last().unwrap();
        let is_draining = last.gateway.drain().is_begun();
        let is_full = self.processes.len() == PROCESSES || self.candidate.is_some();
        if is_full || self.is_taking_over || self.is_nonsense || is_draining {
            return;
        }
        let generation = last.gateway.snapshot().generation();
        let next = Process::new(self.started, self.files, &self.disk, generation);
        for known in last.gateway.upstream_health() {
            next.gateway.assume_health(&known);
        }
        self.started += 1;
        self.candidate = Some((next, generation));
        self.note("a process is started");
    }

    /// Hands over to the new process, which is ready.
    pub(super) fn hand_over(&mut self) {
        let Some((next, generation)) = self.candidate.take() else {
            return;
        };
        let last = self.processes.last_mut().unwrap();
        let is_the_same = last.gateway.snapshot().generation() == generation;
        if last.gateway.drain().is_begun() {
            return;
        }
        assert_eq!(last.gateway.begin_handover(generation), is_the_same);
        if !is_the_same {
            self.note("the policy was reloaded meanwhile: no upgrade");
            return;
        }
        let states = last.link_to(&next);
        if self.is_quiet {
            assert_eq!(states, self.connections());
        }
        self.processes.push(next);
        self.is_taking_over = true;
        // Clients that wait must ask again.
        self.is_quiet = false;
        self.note(format!("it takes over {states} connections"));
    }

    fn connections(&self) -> usize {
        let all = self.processes.iter();
        all.map(|process| process.connections.len()).sum()
    }

    /// Lets the new process serve, or fail.
    pub(super) fn take_over_or_fail(&mut self) {
        if !self.is_taking_over {
            return;
        }
        if self.random.percent(35) {
            return self.fail_to_take_over();
        }
        self.is_taking_over = false;
        let last = self.processes.len() - 1;
        let old = &self.processes[last - 1].gateway;
        old.end_handover();
        old.drain().begin();
        let new = &mut self.processes[last];
        let snapshot = new.gateway.snapshot();
        let revoked = new
            .gateway
            .shared()
            .connections()
            .revoked_remote(&snapshot, PermitCheck::WithChain(UnixTime::now()));
        let (how, drain) = (new.rules.on_revoke, super::rules::DRAIN);
        let mut ending: super::Task<()> = Box::pin(revoked.end(how, drain));
        if poll(&mut ending).is_none() {
            new.endings.push(ending);
        }
        self.deny(last, |rules, client, group| !rules.allow(client, group));
        self.is_quiet = false;
        self.note("it serves");
    }

    /// Ends the process that takes over before it serves. Everything must be as before.
    pub(super) fn fail_to_take_over(&mut self) {
        self.is_taking_over = false;
        self.note("it fails");
        self.remove_last();
        self.processes.last().unwrap().gateway.end_handover();
    }

    /// Ends the process that serves. Those that drain are left.
    pub(super) fn lose_last(&mut self) {
        if self.processes.len() > 1 && !self.is_taking_over && self.random.percent(20) {
            self.note("the process that serves is gone");
            self.candidate = None;
            self.remove_last();
        }
    }

    fn remove_last(&mut self) {
        let lost = self.processes.pop().unwrap();
        self.processes.last_mut().unwrap().unlink();
        // No process is left that ends what only that process denied.
        for process in &mut self.processes {
            for connection in &mut process.connections {
                connection.due.retain(|(by, _)| *by != lost.id);
            }
        }
        self.is_quiet = false;
    }

    /// Ends the oldest process, with its last connection as it must be, or too early.
    pub(super) fn end_oldest(&mut self) {
        let is_serving = self.processes.len() == 1;
        if is_serving || (self.is_taking_over && self.processes.len() == 2) {
            return;
        }
        let oldest = &self.processes[0];
        let is_empty = oldest.connections.is_empty() && oldest.arrivals.is_empty();
        if is_empty || self.random.percent(10) {
            self.note("the oldest process ends");
            self.processes.remove(0).end();
            self.is_quiet = false;
        }
    }
}
