//! A gateway process: what it says, what it uses, and its end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::stage::Stage;
use crate::{soon, until};

/// The size of a page, and of a clock tick, on the machines that this runs on.
const PAGE: u64 = 4096;
const TICK: Duration = Duration::from_millis(10);

/// A running gateway. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    process: Child,
    log: Arc<Mutex<Vec<Value>>>,
    pub(crate) address: SocketAddr,
    records: PathBuf,
    /// Where records go that go to standard output.
    pub(crate) unread: Option<ChildStdout>,
}

impl Gateway {
    /// Starts the gateway of a stage, with its records in `records`.
    pub(crate) async fn start(stage: &Stage, records: &str) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        Self::start_by(command, stage, records).await
    }

    /// Starts it with so few descriptors, of which it has so few unless it asks.
    pub(crate) async fn start_with_descriptors(stage: &Stage, usual: usize, most: usize) -> Self {
        let mut command = Command::new("sh");
        let limits = format!("ulimit -S -n {usual} && ulimit -H -n {most} && exec \"$0\" \"$@\"");
        command
            .args(["-c", &limits])
            .arg(env!("CARGO_BIN_EXE_portcullis"));
        Self::start_by(command, stage, "access.log").await
    }

    async fn start_by(mut command: Command, stage: &Stage, records: &str) -> Self {
        let mut process = command
            .current_dir(stage.folder())
            .args(["run", "--log-format", "json", "--workers", "2"])
            .args(["--policy", "policy.yaml", "--access-log", records])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::default();
        tokio::task::spawn(read(process.stderr.take().unwrap(), Arc::clone(&log)));
        let mut gateway = Self {
            unread: process.stdout.take(),
            process,
            log,
            address: ([127, 0, 0, 1], 0).into(),
            records: stage.path(records),
        };
        let serving = until(async || gateway.logged("serving TLS 1.3").pop()).await;
        gateway.address = serving["addresses"].as_str().unwrap().parse().unwrap();
        gateway
    }

    /// The log events so far whose message begins so.
    pub(crate) fn logged(&self, message: &str) -> Vec<Value> {
        let begins = |event: &&Value| {
            let said = event["message"].as_str();
            said.is_some_and(|said| said.starts_with(message))
        };
        self.log.lock().iter().filter(begins).cloned().collect()
    }

    /// How many log events there were.
    pub(crate) fn log_lines(&self) -> usize {
        self.log.lock().len()
    }

    /// All records so far that are not of connections that are open, without one that is being
    /// written.
    pub(crate) fn records(&self) -> Vec<Value> {
        let bytes = std::fs::read(&self.records).unwrap();
        bytes
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| line.ends_with(b"\n"))
            .map(|line| serde_json::from_slice(line).expect("a record is JSON"))
            .filter(|record: &Value| record["event"] != "opened")
            .collect()
    }

    /// How many records have this reason.
    pub(crate) fn recorded(&self, reason: &str) -> usize {
        let records = self.records();
        let of_reason = records.iter().filter(|record| record["reason"] == reason);
        of_reason.count()
    }

    /// Waits until so many records have this reason.
    pub(crate) async fn records_of(&self, reason: &str, count: usize) {
        until(async || (self.recorded(reason) == count).then_some(())).await;
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let process = self.number().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-s", name, &process])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Has the process end as an operator would.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        soon(self.process.wait()).await.unwrap()
    }

    /// How many bytes of memory it has in use.
    pub(crate) fn memory(&self) -> u64 {
        let pages: u64 = self.figure("statm", 1);
        pages * PAGE
    }

    /// How much processor time it has used.
    pub(crate) fn processor_time(&self) -> Duration {
        // The name before these fields is in brackets and has no blank.
        let (user, system): (u32, u32) = (self.figure("stat", 13), self.figure("stat", 14));
        TICK * (user + system)
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.number()));
        open.expect("the gateway lives").count()
    }

    fn figure<T: std::str::FromStr>(&self, file: &str, place: usize) -> T {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.number())).unwrap();
        let figure = text.split_whitespace().nth(place).unwrap().parse();
        figure.ok().expect("a number")
    }

    fn number(&self) -> u32 {
        self.process.id().expect("the gateway lives")
    }
}

/// How many records a record says that were suppressed before it.
pub(crate) fn suppressed(record: &Value) -> u64 {
    let counts = record["suppressed"].as_object();
    counts.map_or(0, |counts| counts.values().filter_map(Value::as_u64).sum())
}

async fn read(stderr: ChildStderr, log: Arc<Mutex<Vec<Value>>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
        log.lock().push(event);
    }
}
