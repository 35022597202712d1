//! All processes of one history, its steps, and the conditions that must hold after each.

use std::time::Duration;

use tokio::time::{Instant, advance};

use super::process::{Arrival, Process, Waiting};
use super::rules::{Files, Rules, waits};
use super::{CLIENTS, GROUPS, Random, poll};

/// Time limit of a drain at the end of a history.
const LAST_DRAIN: Duration = Duration::from_secs(5);
/// Tolerance of deadlines: timers count in milliseconds.
const LATE: Duration = Duration::from_millis(20);
/// The longest pause before a reload is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// The state of one history.
pub(super) struct World<'a> {
    pub(super) files: &'a Files,
    pub(super) random: Random,
    /// The processes, the oldest first. Each is linked to the next.
    pub(super) processes: Vec<Process>,
    /// A process that has read the policy, and the generation that was in force then.
    pub(super) candidate: Option<(Process, u64)>,
    /// True while the last process is taking over.
    pub(super) is_taking_over: bool,
    /// The content of the files.
    pub(super) disk: Rules,
    /// True if the files cannot be read.
    pub(super) is_nonsense: bool,
    /// True if all messages have been delivered.
    pub(super) is_quiet: bool,
    pub(super) started: usize,
    pub(super) trace: Vec<String>,
}

impl<'a> World<'a> {
    pub(super) fn new(files: &'a Files, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut disk = Rules::default();
        for _ in 0..random.below(5) {
            disk = disk.changed(&mut random);
        }
        Self {
            processes: vec![Process::new(0, files, &disk, 0)],
            trace: vec![format!("begins with {disk:?}")],
            files,
            random,
            candidate: None,
            is_taking_over: false,
            disk,
            is_nonsense: false,
            is_quiet: true,
            started: 1,
        }
    }

    pub(super) fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.trace.push(format!("{:>3} {what}", self.trace.len()));
    }

    /// Runs the history to its end.
    pub(super) async fn run(&mut self) {
        for _ in 0..50 + self.random.below(150) {
            self.step().await;
            if self.random.percent(50) {
                self.flush();
            }
            self.check();
        }
        self.wind_up().await;
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..=19 => self.arrive(),
            20..=39 => self.ask(),
            40..=46 => self.go_on_a_little(),
            47..=53 => self.dial(),
            54..=60 => self.leave(),
            61 => self.certificate_ends(),
            62..=66 => self.files_change(),
            67..=73 => self.reload_what_is_due(),
            74..=79 => self.wait().await,
            80..=81 => self.probe(),
            82..=86 => self.begin_upgrade(),
            87..=91 => self.hand_over(),
            92..=95 => self.take_over_or_fail(),
            96..=97 => self.end_oldest(),
            98 => self.lose_last(),
            _ => self.drain(),
        }
    }

    fn probe(&mut self) {
        let index = self.random.below(self.processes.len());
        self.processes[index].probe(&mut self.random);
    }

    /// Advances the clock by a random time.
    async fn wait(&mut self) {
        let millis = 1 + self.random.below(3000);
        self.note(format!("{millis} ms pass"));
        // What is on its way arrives in less time.
        self.flush();
        advance(Duration::from_millis(millis.try_into().unwrap())).await;
        self.flush();
        self.nobody_is_overdue();
        self.reload_what_is_due();
    }

    /// Runs one kind of pending work of one process; all other work stays pending.
    fn go_on_a_little(&mut self) {
        let index = self.random.below(self.processes.len());
        match self.random.below(3) {
            0 => self.processes[index].exchange(),
            1 => self.settle(index),
            _ => self.end_connections(index),
        }
    }

    fn drain(&mut self) {
        let last = self.processes.len() - 1;
        // A gateway that drains takes no part in what is interesting.
        if self.is_taking_over || !self.random.percent(15) {
            return;
        }
        self.note("the gateway drains");
        self.drain_process(last);
    }

    pub(super) fn drain_process(&mut self, index: usize) {
        self.is_quiet = false;
        let process = &mut self.processes[index];
        let drain = process.gateway.drain().clone();
        if process.drained.is_none() {
            let mut finish =
                Box::pin(async move { drain.finish(LAST_DRAIN).await }) as super::Task<_>;
            if poll(&mut finish).is_none() {
                process.drained = Some(finish);
            }
        }
    }

    /// Delivers all messages and runs all pending work, until nothing is left.
    pub(super) fn flush(&mut self) {
        for _ in 0..3 + 2 * self.processes.len() {
            for index in 0..self.processes.len() {
                self.processes[index].exchange();
                self.settle(index);
                self.end_connections(index);
            }
        }
        self.is_quiet = true;
    }

    /// Removes the connections that must end, and polls the tasks that decide it.
    pub(super) fn end_connections(&mut self, index: usize) {
        let process = &mut self.processes[index];
        process.endings.retain_mut(|ending| poll(ending).is_none());
        if process
            .drained
            .as_mut()
            .is_some_and(|drained| poll(drained).is_some())
        {
            process.drained = None;
        }
        let is_cut_off = process.gateway.drain().cutoff().is_cancelled();
        let mut left = Vec::new();
        process.connections.retain_mut(|connection| {
            let ended = connection
                .certificate
                .as_mut()
                .is_some_and(|ended| poll(ended).is_some());
            let revoked = connection.is_cut();
            assert!(
                !revoked || connection.is_denied,
                "{} is cut for nothing",
                connection.number
            );
            let stays = !(ended || revoked || is_cut_off);
            if !stays {
                left.push(connection.client);
            }
            stays
        });
        if !left.is_empty() {
            self.is_quiet = false;
            self.note(format!(
                "process {index}: connections of {left:?} are ended"
            ));
        }
    }

    fn nobody_is_overdue(&self) {
        let now = Instant::now();
        for process in &self.processes {
            let mut arrivals = process.arrivals.iter();
            let asked = |one: &&Arrival| matches!(one.waiting, Waiting::Asked(_));
            let overdue = arrivals.find(|one| asked(one) && one.patience + LATE < now);
            assert!(
                overdue.is_none(),
                "client {} of process {} waits for ever",
                overdue.map_or(0, |one| one.client),
                process.id
            );
            for connection in &process.connections {
                let overdue = connection.due.iter().find(|(_, due)| *due + LATE < now);
                assert!(
                    overdue.is_none(),
                    "client {} of process {} holds a permit that process {} has denied",
                    connection.client,
                    process.id,
                    overdue.unwrap().0
                );
            }
        }
    }

    /// Returns the number of connections that a client has in the processes up to this one.
    pub(super) fn total(&self, index: usize, client: usize) -> u32 {
        let processes = self.processes[..=index].iter();
        processes.map(|process| process.count()[client]).sum()
    }

    /// Returns the number of connections of a client that wait for a slot in a process.
    pub(super) fn waiting(&self, index: usize, client: usize) -> u32 {
        let limiter = self.processes[index].gateway.shared().balancer().limiter();
        u32::try_from(limiter.waiting(&format!("c{client}"))).unwrap()
    }

    /// Returns true if any client has asked for a slot and has no answer.
    pub(super) fn is_anybody_waiting(&self) -> bool {
        let mut arrivals = self.processes.iter().flat_map(|one| &one.arrivals);
        arrivals.any(|one| matches!(one.waiting, Waiting::Asked(_)))
    }

    /// Checks that clients wait only in the process that counts clients, and only while no slot is
    /// free.
    fn check_lines(&self) {
        let last = self.processes.len() - 1;
        for client in 0..CLIENTS {
            let arrivals = self.processes.iter().flat_map(|one| &one.arrivals);
            let asked =
                |one: &&Arrival| one.client == client && matches!(one.waiting, Waiting::Asked(_));
            let asked = u32::try_from(arrivals.filter(asked).count()).unwrap();
            let waiting = self.waiting(last, client);
            assert_eq!(asked, waiting, "client {client} waits where nobody counts");
            let is_ending = self.processes[last].gateway.drain().is_begun();
            let limit = self.processes[last].rules.limit(client);
            assert!(
                waiting == 0 || waits(client) && !is_ending && self.total(last, client) >= limit,
                "client {client} waits though a slot is free, or for nothing"
            );
        }
    }

    fn check(&self) {
        if self.is_quiet {
            self.check_lines();
        }
        for (index, process) in self.processes.iter().enumerate() {
            if !self.is_just_taking_over(index) {
                let is_in_force = self.is_nonsense || process.rules == self.disk;
                let due = process.debt.due().map(Instant::from_std);
                assert!(is_in_force || due.is_some(), "a change is lost in {index}");
                let latest = Instant::now() + RETRY;
                assert!(
                    due.is_none_or(|due| due <= latest),
                    "a change must wait too long"
                );
            }
            assert_eq!(
                process.gateway.shared().connections().open(),
                process.connections.len()
            );
            if self.is_quiet {
                self.check_counts(index, process);
            }
        }
    }

    pub(super) fn is_just_taking_over(&self, index: usize) -> bool {
        self.is_taking_over && index + 1 == self.processes.len()
    }

    fn check_counts(&self, index: usize, process: &Process) {
        let gateway = &process.gateway;
        for client in 0..CLIENTS {
            let open = gateway
                .shared()
                .balancer()
                .limiter()
                .open(&format!("c{client}"));
            assert_eq!(
                open,
                self.total(index, client),
                "of client {client} in {index}"
            );
        }
        assert_eq!(
            gateway.shared().limits().connections(),
            self.slots(index),
            "slots in {index}"
        );
        for group in (0..GROUPS).filter(|group| !process.removed[*group]) {
            let live = gateway
                .shared()
                .balancer()
                .group(&format!("g{group}"))
                .unwrap();
            let all = self.processes[..=index]
                .iter()
                .flat_map(|one| &one.connections);
            let leased = all
                .filter(|one| one.group == group && one.lease.is_some())
                .count();
            assert_eq!(
                live.open() as usize,
                leased,
                "leases of group {group} in {index}"
            );
        }
    }

    /// Returns the number of slots that are taken in a process.
    pub(super) fn slots(&self, index: usize) -> u32 {
        let all = self.processes[..=index].iter();
        let connections: usize = all.map(|process| process.connections.len()).sum();
        u32::try_from(connections + self.processes[index].arrivals.len()).unwrap()
    }

    /// Drains all processes and checks that nothing is left.
    async fn wind_up(&mut self) {
        self.note("the end");
        self.candidate = None;
        if self.is_taking_over {
            self.fail_to_take_over();
        }
        self.processes
            .iter_mut()
            .for_each(|process| process.arrivals.clear());
        for index in 0..self.processes.len() {
            self.drain_process(index);
        }
        self.flush();
        advance(LAST_DRAIN + LATE).await;
        self.flush();
        for process in &self.processes {
            let gateway = &process.gateway;
            assert!(process.connections.is_empty());
            assert_eq!(gateway.shared().balancer().limiter().clients(), 0);
            assert_eq!(gateway.shared().limits().connections(), 0);
            assert_eq!(gateway.drain().open(), 0);
            let groups = gateway.shared().balancer().groups();
            assert!(groups.iter().all(|group| group.open() == 0));
        }
    }
}
