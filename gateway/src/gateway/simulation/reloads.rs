//! Reloads: the files change, and processes read them.

use std::time::Instant as SystemInstant;

use tokio::time::Instant;

use super::poll;
use super::world::World;
use crate::loaded_policy::NextPolicy;
use crate::pending_reload::ReloadAttempt;

impl World<'_> {
    /// Changes the files, in some cases to content that cannot be read.
    pub(super) fn files_change(&mut self) {
        self.is_nonsense = self.random.percent(10);
        if !self.is_nonsense {
            self.disk = self.disk.changed(&mut self.random);
        }
        let now = now();
        let candidate = self.candidate.iter_mut().map(|(process, _)| process);
        for process in self.processes.iter_mut().chain(candidate) {
            process.debt.request(now);
        }
        self.note(if self.is_nonsense {
            "the files are nonsense".to_owned()
        } else {
            format!("the files are {:?}", self.disk)
        });
    }

    /// Lets processes with a pending reload try it, some earlier than others.
    pub(super) fn reload_what_is_due(&mut self) {
        for index in 0..self.processes.len() {
            let due = self.processes[index].debt.due();
            let is_due = due.is_some_and(|due| due <= now());
            if is_due && !self.is_just_taking_over(index) && self.random.percent(60) {
                self.reload(index);
            }
        }
    }

    fn reload(&mut self, index: usize) {
        let is_handing_over = self.is_taking_over && index + 2 == self.processes.len();
        let is_hindered = self.random.percent(25);
        let process = &mut self.processes[index];
        let gateway = &process.gateway;
        let before = gateway.snapshot();
        let text = if self.is_nonsense {
            "no policy"
        } else {
            &self.disk.text()
        };
        let applied = if is_hindered {
            Err(ReloadAttempt::Hindered)
        } else {
            let next = before.policy().parse_next("policy", text);
            let next = next.map(|next| NextPolicy::new(next, self.files.tls(&self.disk)));
            let next = next.map_err(|_| ReloadAttempt::Wrong);
            next.and_then(|next| gateway.apply(next).map_err(|_| ReloadAttempt::Hindered))
        };
        let attempted = applied.as_ref().err().copied();
        let attempted = attempted.unwrap_or(ReloadAttempt::Done);
        process.debt.attempted(attempted, now());
        let is_read = !is_hindered && !self.is_nonsense && !is_handing_over;
        assert_eq!(applied.is_ok(), is_read);
        self.note(format!("process {index} reloads: {}", applied.is_ok()));
        let Ok(applied) = applied else { return };
        let former = std::mem::replace(&mut self.processes[index].rules, self.disk.clone());
        let process = &mut self.processes[index];
        for (removed, is_absent) in process.removed.iter_mut().zip(self.disk.without()) {
            *removed |= is_absent;
        }
        let (how, drain) = applied.on_revoke;
        let revoked = applied.revoked.len();
        process
            .endings
            .push(Box::pin(applied.revoked.end(how, drain)));
        let denied = self.deny(index, |rules, client, group| {
            rules.denies_after(&former, client, group)
        });
        if self.is_quiet {
            assert_eq!(revoked, denied, "how many are revoked in process {index}");
        }
        // The time counts from here.
        self.processes[index]
            .endings
            .retain_mut(|ending| poll(ending).is_none());
        // Clients that wait have not been notified.
        self.is_quiet &= denied == 0 && !self.is_anybody_waiting();
    }

    /// Marks the connections that `denies` selects as denied by a process: its own and those of
    /// older processes. Returns their number.
    pub(super) fn deny(
        &mut self,
        index: usize,
        denies: impl Fn(&super::rules::Rules, usize, usize) -> bool,
    ) -> usize {
        let by = &self.processes[index];
        let (id, end, rules) = (by.id, by.end_of_denied(), by.rules.clone());
        let mut count = 0;
        for process in &mut self.processes[..=index] {
            for arrival in &mut process.arrivals {
                arrival.is_denied |= denies(&rules, arrival.client, arrival.group);
            }
            for connection in &mut process.connections {
                if denies(&rules, connection.client, connection.group) {
                    count += 1;
                    connection.is_denied = true;
                    connection.due.extend(end.map(|end| (id, end)));
                }
            }
        }
        count
    }
}

fn now() -> SystemInstant {
    Instant::now().into_std()
}
