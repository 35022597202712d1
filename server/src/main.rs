//! The `portcullis` program: executes its command line and exits with the resulting code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use portcullis::command::CommandLine;

fn main() -> ExitCode {
    CommandLine::from_environment().execute()
}
