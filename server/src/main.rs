//! The `portcullis` command: arguments in, exit code out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use portcullis::command::Command;

fn main() -> ExitCode {
    Command::from_environment().execute()
}
