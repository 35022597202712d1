//! The options of `portcullis demo`.

use std::path::PathBuf;

use clap::Args;

/// What `portcullis demo` takes.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Where certificates are issued if they are missing. Another directory than the policy's own
    /// gets a copy of the policy too, for `portcullis run --policy DIR/policy.yaml`.
    #[arg(long, default_value = "certs")]
    pub(super) dir: PathBuf,
    /// The policy [default: policy.yaml if there is one, else the one that is built in].
    #[arg(long)]
    pub(super) policy: Option<PathBuf>,
    /// Let the kernel choose every port instead of taking those of the policy.
    #[arg(long)]
    pub(super) free_ports: bool,
    /// End after the table: exit code 0 only if every line is as expected.
    #[arg(long)]
    pub(super) once: bool,
}
