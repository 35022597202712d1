//! The `portcullis` command: arguments in, exit code out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use portcullis::command::Command;

fn main() -> ExitCode {
    // clap ends the process itself on `--help` (0) and on wrong usage (2).
    Command::parse().execute()
}
