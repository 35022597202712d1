//! An upgrade as an operator requests it, and its result.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::table::counted;
use serde::{Deserialize, Serialize};

/// Default time limit for a new process to become ready: 1 min.
pub const USUAL_TIMEOUT: Duration = Duration::from_mins(1);

/// Body of a request to `POST /upgrade`; all fields are optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct UpgradeRequest {
    /// Absolute path of the new process's program; the path that the gateway was started from if
    /// absent.
    #[cfg_attr(test, schema(value_type = Option<String>))]
    pub binary: Option<PathBuf>,
    /// True for a trial: the new process is started, and ended as soon as it is ready.
    pub dry_run: bool,
    /// Time limit in seconds for the new process to become ready; 60 if absent.
    pub timeout_seconds: Option<u64>,
}

/// Result of an [`UpgradeRequest`]: of an upgrade, or of a trial of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct UpgradeReport {
    /// True if it was only a trial.
    pub dry_run: bool,
    /// Path of the new process's program.
    #[cfg_attr(test, schema(value_type = String))]
    pub binary: PathBuf,
    /// File that the path led to, with all symbolic links resolved.
    #[serde(default)]
    #[cfg_attr(test, schema(value_type = String))]
    pub file: PathBuf,
    /// Version of the new process and contents of its policy.
    #[serde(flatten)]
    pub summary: ReadySummary,
    /// Number of listeners that were handed to the new process.
    pub listeners: usize,
    /// Process ID of the new process.
    pub pid: u32,
    /// Process ID of the process that served before.
    pub old_pid: u32,
    /// Number of connections that stay with the old process until they end.
    pub connections: usize,
}

/// Version of a process that is ready to serve, and contents of the policy that it has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ReadySummary {
    /// Version of the program.
    pub version: String,
    /// Number of the policy's groups.
    pub groups: usize,
    /// Number of the policy's clients.
    pub clients: usize,
    /// Version of the set of messages that the process knows; 0 if it does not send it.
    #[serde(default)]
    pub handover: u32,
}

impl fmt::Display for UpgradeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            binary,
            file,
            summary,
            listeners,
            pid,
            old_pid,
            connections,
            ..
        } = self;
        let ReadySummary {
            version,
            groups,
            clients,
            ..
        } = summary;
        let program = ProgramPath { binary, file };
        let groups = counted(*groups, "group", "groups");
        let clients = counted(*clients, "client", "clients");
        let listeners = counted(*listeners, "listener", "listeners");
        let connections = counted(*connections, "connection", "connections");
        if self.dry_run {
            writeln!(
                f,
                "{program} ({version}) can serve: {groups}, {clients}; {listeners} to hand over\n\
                 process {old_pid} would drain {connections}\n\
                 nothing has changed"
            )
        } else {
            writeln!(
                f,
                "process {pid} serves: {program} ({version}), {groups}, {clients}; {listeners} \
                 handed over\n\
                 process {old_pid} drains {connections}"
            )
        }
    }
}

/// Display of a program's path, and of the file that it leads to if that is a different one.
struct ProgramPath<'a> {
    binary: &'a Path,
    file: &'a Path,
}

impl fmt::Display for ProgramPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.binary.display())?;
        if self.file == self.binary || self.file.as_os_str().is_empty() {
            return Ok(());
        }
        write!(f, " -> {}", self.file.display())
    }
}
