//! Settings of a gateway process, and the kind of its start.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use ebpf::{PinDir, Role};

use host::log_writer::Sink;

/// Settings of a gateway process, as the command line gives them.
#[derive(Debug)]
pub(crate) struct RunSettings {
    /// Path of the policy's file.
    pub policy: PathBuf,
    /// Number of workers; if absent the policy's, and without that one for each processor that the
    /// process may use.
    pub workers: Option<NonZeroUsize>,
    /// Output of the access records.
    pub records: Sink,
    /// Path of the access log, if it is a file.
    pub(crate) access_log: Option<PathBuf>,
    /// Directory where the steering programs are pinned, and the gateway's role there; if absent,
    /// nothing is steered.
    pub instance: Option<(PinDir, Role)>,
    /// Default program of an upgrade.
    pub program: Option<PathBuf>,
}

/// Kind of start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartKind {
    /// By itself.
    Fresh,
    /// To take over from the process at standard input.
    Upgrade,
}
