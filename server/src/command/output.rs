//! Output of a command, and its exit code.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

/// Exit code: failed, or not valid.
pub(super) const FAILED: u8 = 1;
/// Exit code: `diff` found a difference, `explain` says denied, or `expiring` found something.
pub(super) const DIFFERS: u8 = 3;

/// Form in which a command prints its answer: text for people, or JSON.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct AnswerFormat {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl AnswerFormat {
    /// Prints an answer.
    pub(super) fn print(self, answer: &(impl fmt::Display + Serialize)) {
        let text = if self.json {
            serde_json::to_string_pretty(answer).expect("answers have only plain values") + "\n"
        } else {
            answer.to_string()
        };
        // A failure is ignored: a reader that has closed the pipe needs no more.
        drop(io::stdout().write_all(text.as_bytes()));
    }
}

/// Prints a text; the exit code tells whether that was possible.
pub(super) fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

/// Prints an error; the exit code is [`FAILED`].
pub(super) fn fail(error: &dyn fmt::Display) -> ExitCode {
    // There is no other place to report a failure.
    drop(writeln!(io::stderr(), "portcullis: {error}"));
    ExitCode::from(FAILED)
}
