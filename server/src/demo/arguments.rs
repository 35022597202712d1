//! The options of `portcullis demo`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `portcullis demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Directory of the certificates, which are issued if they are missing. If it is not the
    /// policy's own directory, the policy is copied to it, for `portcullis run --policy
    /// DIR/policy.yaml`.
    #[arg(long, default_value = "certs")]
    pub(super) dir: PathBuf,
    /// File of the policy [default: policy.yaml if it exists, else a built-in policy].
    #[arg(long)]
    pub(super) policy: Option<PathBuf>,
    /// Let the kernel choose all ports, instead of those of the policy.
    #[arg(long)]
    pub(super) free_ports: bool,
    /// Exit after the table; the exit code is 0 only if every line is as expected.
    #[arg(long)]
    pub(super) once: bool,
}
