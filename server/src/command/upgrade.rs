//! `portcullis upgrade`: asks the running gateway to start a new process that replaces it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::output::{fail, print};
use crate::admin::{self, UpgradeRequest};
use crate::load::{base, read_policy_only};

#[derive(Debug, Args)]
pub(super) struct UpgradeArguments {
    /// The program of the new process [default: the path that the gateway was started from, with its links as they are now].
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Only tell whether it would succeed, and what it would come to.
    #[arg(long)]
    dry_run: bool,
    /// How many seconds the new process may take to be ready [default: 60].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,
    /// The gateway's admin socket [default: the policy's].
    #[arg(long)]
    socket: Option<PathBuf>,
    /// The policy's file.
    #[arg(long, default_value = "policy.yaml")]
    policy: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn upgrade(arguments: &UpgradeArguments) -> ExitCode {
    let socket = match &arguments.socket {
        Some(socket) => socket.clone(),
        None => match policys_socket(&arguments.policy) {
            Ok(socket) => socket,
            Err(error) => return fail(&error),
        },
    };
    let binary = arguments.binary.as_ref().map(|binary| {
        // The gateway resolves its symbolic links: the next upgrade may find them switched.
        let found = std::fs::metadata(binary).and_then(|_| std::path::absolute(binary));
        found.map_err(|error| format!("{}: {error}", binary.display()))
    });
    let binary = match binary.transpose() {
        Ok(binary) => binary,
        Err(error) => return fail(&error),
    };
    let wanted = UpgradeRequest {
        binary,
        dry_run: arguments.dry_run,
        timeout_seconds: arguments.timeout,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let answer = match runtime {
        Ok(runtime) => runtime.block_on(admin::ask(&socket, &wanted)),
        Err(error) => return fail(&error),
    };
    match answer {
        Ok(upgraded) => {
            print(&upgraded, arguments.json);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// Returns the path of the admin socket by the policy in the file `policy`.
///
/// # Errors
///
/// If the policy cannot be loaded, or has no admin socket.
fn policys_socket(policy: &Path) -> Result<PathBuf, String> {
    let loaded = read_policy_only(policy).map_err(|error| error.to_string())?;
    let socket = loaded.gateway().admin.as_ref();
    let socket = socket.ok_or_else(|| {
        format!(
            "{} has no `gateway.admin.socket`; send SIGUSR2 to the gateway instead",
            policy.display()
        )
    })?;
    Ok(base(policy).join(socket))
}
