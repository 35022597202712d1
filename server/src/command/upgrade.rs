//! `portcullis upgrade`: asks the running gateway to start a new process that replaces it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::output::{AnswerFormat, fail};
use crate::load::{base, read_policy_only};
use admin::{self, UpgradeRequest};

#[derive(Debug, Args)]
pub(super) struct UpgradeArguments {
    /// Program of the new process [default: the path that the gateway was started from; symbolic
    /// links are resolved again].
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Only report whether the upgrade would succeed, and what it would hand over.
    #[arg(long)]
    dry_run: bool,
    /// Longest time for the new process to become ready, such as `90s` or `2m`; a number without a
    /// unit is in seconds [default: 60s].
    #[arg(long, value_parser = seconds)]
    timeout: Option<u64>,
    /// Admin socket of the gateway [default: that of the policy].
    #[arg(long)]
    socket: Option<PathBuf>,
    /// File of the policy.
    #[arg(long, default_value = "policy.yaml")]
    policy: PathBuf,
    #[command(flatten)]
    format: AnswerFormat,
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
            arguments.format.print(&upgraded);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// Parses a time from 1 second to 1 day, such as `90s`, `2m` or `1h`, or a number of seconds.
///
/// # Errors
///
/// The time is not of this form, or out of range.
fn seconds(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        _ => None,
    };
    let number = digits
        .bytes()
        .all(|digit| digit.is_ascii_digit())
        .then(|| digits.parse::<u64>().ok())
        .flatten();
    let seconds = number
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit));
    seconds
        .filter(|seconds| (1..=86_400).contains(seconds))
        .ok_or_else(|| "expected a time from `1s` to `1d`, such as `90s` or `2m`".to_owned())
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

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn a_timeout_is_a_time_with_a_unit_or_a_number_of_seconds() {
        for (text, expected) in [
            ("60", 60),
            ("60s", 60),
            ("2m", 120),
            ("1h", 3600),
            ("1d", 86_400),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "s",
            "0",
            "0s",
            "2d",
            "86401",
            "1.5m",
            "-1",
            "+1",
            "1ms",
            "1 s",
            "99999999999999999999h",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
