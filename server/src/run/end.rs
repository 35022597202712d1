//! Results of a gateway process.

use std::process::ExitStatus;

use lb::Drained;

/// Result of a gateway process that has ended. The exit code of the program follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunEnd {
    /// The upgrade was cancelled or was only a trial: this process never served.
    Dismissed,
    /// The process has no connections any more.
    Drained(Drained),
    /// The process has no connections any more, and the process that served last, whose parent it
    /// was, has ended with this status.
    Followed(Drained, ExitStatus),
}
