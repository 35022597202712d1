//! A gateway process: its log, its records, its signals and its end.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::{Connection, World, soon, until};

/// An access record.
pub(crate) type Record = Value;

/// A running gateway. All its processes are killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    process: Child,
    followers: Vec<u32>,
    policy: PathBuf,
    log: mpsc::Receiver<Value>,
    /// Log events from before it served that no test has asked for yet.
    early: VecDeque<Value>,
    pub(crate) address: SocketAddr,
    records: PathBuf,
}

impl Gateway {
    /// Starts the gateway of a world with the policy file as it is, and waits until it serves.
    pub(crate) async fn start_as_it_is(world: &World) -> Self {
        Self::start_under(world, &["env"], 2).await
    }

    /// Starts it by a command that takes a program and its arguments, with this number of workers.
    pub(crate) async fn start_under(world: &World, command: &[&str], workers: usize) -> Self {
        let mut start = Command::new(command[0]);
        start.args(&command[1..]);
        Self::start_by(world, start, workers).await
    }

    /// Starts it by a prepared command, with this number of workers.
    pub(crate) async fn start_by(world: &World, command: Command, workers: usize) -> Self {
        let workers = workers.to_string();
        Self::start_with(world, command, &["--workers", &workers]).await
    }

    /// Starts it by a prepared command, with these options of `run`.
    pub(crate) async fn start_with(world: &World, mut command: Command, options: &[&str]) -> Self {
        let records = world.path("access.log");
        let mut process = command
            .arg(env!("CARGO_BIN_EXE_portcullis"))
            .args(["run", "--log-format", "json"])
            .args(options)
            .arg("--policy")
            .arg(world.path("policy.yaml"))
            .arg("--access-log")
            .arg(&records)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (sender, log) = mpsc::channel(10_000);
        tokio::task::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(event).await.is_err() {
                    return;
                }
            }
        });
        let address = ([127, 0, 0, 1], 0).into();
        let mut gateway = Self {
            process,
            followers: Vec::new(),
            policy: world.path("policy.yaml"),
            log,
            early: VecDeque::new(),
            address,
            records,
        };
        let serving = loop {
            let event = gateway.next_event().await;
            if event["message"] == "serving TLS 1.3 with client certificates" {
                break event;
            }
            gateway.early.push_back(event);
        };
        gateway.address = serving["addresses"].as_str().unwrap().parse().unwrap();
        gateway
    }

    /// Waits for the next log event with this message; events from before it served are ignored.
    pub(crate) async fn logged(&mut self, message: &str) -> Value {
        soon(async {
            loop {
                let event = self.next_event().await;
                if event["message"] == message {
                    return event;
                }
            }
        })
        .await
    }

    /// Waits until each of these messages was logged, in any order. One that is named twice is
    /// logged twice.
    pub(crate) async fn logged_in_any_order(&mut self, messages: &[&str]) {
        let mut missing = messages.to_vec();
        soon(async {
            while !missing.is_empty() {
                let event = self.next_event().await;
                if let Some(found) = missing.iter().position(|one| event["message"] == *one) {
                    missing.swap_remove(found);
                }
            }
        })
        .await;
    }

    /// Waits for the next log event with this message, including those from before it served.
    pub(crate) async fn logged_at_all(&mut self, message: &str) -> Value {
        while let Some(event) = self.early.pop_front() {
            if event["message"] == message {
                return event;
            }
        }
        self.logged(message).await
    }

    /// Returns true if there was a log event with this message before it served.
    pub(crate) fn had_logged(&self, message: &str) -> bool {
        self.early.iter().any(|event| event["message"] == message)
    }

    async fn next_event(&mut self) -> Value {
        soon(self.log.recv()).await.expect("the gateway lives")
    }

    /// Writes the world's policy, waits until it is in force, and returns the log event of the
    /// reload.
    pub(crate) async fn reload(&mut self, world: &World) -> Value {
        world.write_policy();
        self.logged("policy reloaded").await
    }

    /// Upgrades the gateway by `portcullis upgrade` with these arguments. Returns what it prints,
    /// or the error that it prints.
    pub(crate) async fn upgrade(&mut self, arguments: &[&str]) -> Result<Value, String> {
        let upgrade = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["upgrade", "--json", "--policy"])
            .arg(&self.policy)
            .args(arguments)
            .output();
        let Output {
            status,
            stdout,
            stderr,
        } = soon(upgrade).await.unwrap();
        if !status.success() {
            assert_eq!(status.code(), Some(1));
            return Err(String::from_utf8(stderr).unwrap());
        }
        let upgraded: Value = serde_json::from_slice(&stdout).unwrap();
        if upgraded["dry_run"] == false {
            let follower = upgraded["pid"].as_u64().unwrap();
            self.followers.push(follower.try_into().unwrap());
        }
        Ok(upgraded)
    }

    /// Records the ID of a new process that was started otherwise than by [`Self::upgrade`].
    pub(crate) fn is_followed_by(&mut self, process: u32) {
        self.followers.push(process);
    }

    /// Returns the ID of the process that was started first.
    pub(crate) fn first(&self) -> u32 {
        self.process.id().expect("the gateway lives")
    }

    /// Returns the ID of the process that serves.
    pub(crate) fn process(&self) -> u32 {
        let follower = self.followers.last().copied();
        follower.unwrap_or_else(|| self.first())
    }

    /// Sends a signal, by its name, to the process that serves.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.process(), name);
    }

    /// Returns the processor time that the process that serves has used so far.
    pub(crate) fn processor_time(&self) -> Duration {
        let process = self.process();
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        // proc_pid_stat(5): utime and stime, in ticks of a hundredth of a second.
        let fields = stat.rsplit(") ").next().unwrap().split(' ');
        let ticks = fields.skip(11).take(2);
        let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }

    /// Waits for the first process to end, and returns its status.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        soon(self.process.wait()).await.unwrap()
    }

    /// Returns all records so far that are not of connections that are open.
    pub(crate) fn records(&self) -> Vec<Record> {
        let is_of_open = |record: &Record| record["event"] == "opened" || record["event"] == "open";
        let all = self.all_records().into_iter();
        all.filter(|record| !is_of_open(record)).collect()
    }

    /// Returns all records so far, without one that is still being written.
    pub(crate) fn all_records(&self) -> Vec<Record> {
        let bytes = std::fs::read(&self.records).unwrap();
        bytes
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| line.ends_with(b"\n"))
            .map(|line| serde_json::from_slice(line).expect("a record is JSON"))
            .collect()
    }

    /// Waits for a record that `wanted` accepts.
    pub(crate) async fn record(&self, wanted: impl Fn(&Record) -> bool) -> Record {
        until(async || self.records().into_iter().find(&wanted)).await
    }

    /// Waits for the record of the end of a connection.
    pub(crate) async fn record_of(&self, connection: &Connection) -> Record {
        self.record_from(&connection.source.to_string(), 0).await
    }

    /// Waits for the record of a connection from this source. The first `earlier` records are
    /// ignored: one of them may be of a connection from the same port.
    pub(crate) async fn record_from(&self, source: &str, earlier: usize) -> Record {
        let is_it = |record: &Record| source_of(record) == source;
        until(async || self.records().into_iter().skip(earlier).find(is_it)).await
    }

    /// Waits for a record with this reason.
    pub(crate) async fn record_with(&self, reason: &str) -> Record {
        self.record(|record| record["reason"] == reason).await
    }
}

/// Returns the address and port that a record's client came from.
pub(crate) fn source_of(record: &Record) -> String {
    address_of(record, "source")
}

/// Returns the address and port that a record's client connected to.
pub(crate) fn destination_of(record: &Record) -> String {
    address_of(record, "destination")
}

fn address_of(record: &Record, end: &str) -> String {
    let address = record[format!("{end}_address")].as_str();
    let port = record[format!("{end}_port")].as_u64();
    let (Some(address), Some(port)) = (address, port) else {
        return String::new();
    };
    let port = port.try_into().expect("a port");
    SocketAddr::new(address.parse().expect("an address"), port).to_string()
}

/// Sends a signal, by its name, to a process.
pub(crate) fn signal(process: u32, name: &str) {
    let sent = std::process::Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

impl Drop for Gateway {
    fn drop(&mut self) {
        for &process in &self.followers {
            let process = i32::try_from(process).ok();
            let process = process.and_then(rustix::process::Pid::from_raw);
            if let Some(process) = process {
                // Most have ended already.
                rustix::process::kill_process(process, rustix::process::Signal::KILL).ok();
            }
        }
    }
}
