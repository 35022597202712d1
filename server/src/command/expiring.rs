//! `portcullis expiring`: its arguments and exit codes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use rustls_pki_types::UnixTime;

use super::output::{AnswerFormat, DIFFERS, fail};
use crate::expiring;
use policy::{DurationError, parse_duration};

#[derive(Debug, Args)]
pub(super) struct ExpiringArguments {
    /// Time from now, such as `14d` or `12h`.
    #[arg(default_value = "30d", value_parser = within)]
    within: Duration,
    /// File of the policy.
    #[arg(long, default_value = "policy.yaml")]
    policy: PathBuf,
    #[command(flatten)]
    format: AnswerFormat,
}

pub(super) fn expiring(arguments: &ExpiringArguments) -> ExitCode {
    match expiring::expiring(&arguments.policy, arguments.within, UnixTime::now()) {
        Ok(report) => {
            arguments.format.print(&report);
            ExitCode::from(if report.is_empty() { 0 } else { DIFFERS })
        }
        Err(error) => fail(&error),
    }
}

fn within(text: &str) -> Result<Duration, DurationError> {
    parse_duration(text)
}
