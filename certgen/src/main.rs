//! The `certgen` command. Exit codes: 0 success, 1 failure, 2 a wrong command line.
//!
//! `needs-renewal` has its own codes, for scripts: 0 renew, 1 not yet, 3 no such file, 4 any
//! other failure.
#![forbid(unsafe_code)]

mod command;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::command::CertgenArguments;

/// Exit code of a command line that cannot be parsed.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let arguments = match CertgenArguments::try_parse() {
        Ok(arguments) => arguments,
        Err(refused) => {
            let printed = refused.print().is_ok();
            let help = printed && !refused.use_stderr();
            return if help {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(MISUSED)
            };
        }
    };
    let mut out = io::stdout().lock();
    let code = command::run(&arguments, &mut out).unwrap_or_else(|failure| {
        let told = writeln!(io::stderr(), "certgen: {}", explain(&failure));
        // If standard error cannot be written, the exit code is the only report.
        drop(told);
        command::failure_code(&arguments, &failure)
    });
    ExitCode::from(code)
}

/// Formats an error with all its sources, separated by colons.
fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
