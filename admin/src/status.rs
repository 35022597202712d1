//! The answer to `GET /status`: one process of a gateway, and what it does.

use serde::{Deserialize, Serialize};

/// State of the process that serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct StatusReport {
    /// Version of the program.
    pub version: String,
    /// Process ID.
    pub pid: u32,
    /// Time of the start of this process, in RFC 3339.
    pub started: String,
    /// Seconds since the start of this process.
    pub uptime_seconds: u64,
    /// Role of the process: `primary`, or `standby`.
    pub role: String,
    /// Path of the policy's file.
    pub policy: String,
    /// Generation of the policy in force; each reload that changes something makes the next.
    pub generation: u64,
    /// The last reload; `null` if this process has read the policy only at its start.
    pub last_reload: Option<ReloadStatus>,
    /// Number of workers.
    pub workers: usize,
    /// Addresses that the gateway listens on, with ports; empty for a standby.
    pub listeners: Vec<String>,
    /// True if the kernel steers connections to this process.
    pub steering: bool,
    /// True if a process that served before still has connections.
    pub old_process_drains: bool,
    /// The connections.
    pub connections: ConnectionCounts,
}

/// The end of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ReloadStatus {
    /// Time of its end, in RFC 3339.
    pub time: String,
    /// Number of changes that it put in force; `null` if it failed.
    pub changes: Option<usize>,
    /// Reason of its failure; `null` if it succeeded.
    pub error: Option<String>,
}

/// Numbers of connections by their stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ConnectionCounts {
    /// Open connections, those of old processes included.
    pub open: u32,
    /// Largest number of open connections; `null` if there is no limit.
    pub max: Option<u32>,
    /// Open connections of this process.
    pub own: usize,
    /// Handshakes in flight.
    pub handshakes: usize,
    /// Connections whose `ClientHello` is not whole.
    pub silent: usize,
}
