//! The `certgen` command: 0 is done, 1 is failed, 255 is a call that makes no sense.
//!
//! `needs-renewal` has codes of its own, for scripts: 0 renew, 1 fine, 2 no such file, 255 else.
#![forbid(unsafe_code)]

mod command;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::command::CertgenArguments;

/// The exit code of a call that makes no sense.
const MISUSED: u8 = 255;

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
        // Without anybody to tell, the exit code has to do.
        drop(told);
        command::failure_code(&arguments, &failure)
    });
    ExitCode::from(code)
}

/// An error with everything that led to it.
fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
