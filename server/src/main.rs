//! The `portcullis` command: arguments in, exit code out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use portcullis::command::CommandLine;

fn main() -> ExitCode {
    CommandLine::from_environment().execute()
}
