//! Log events on standard error: their filter, format and colours.

use std::env::var_os;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::set_global_default;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::{Layer, SubscriberExt};

use super::json_events::JsonEvents;
use super::log_filter;
use super::output::fail;
use host::log_writer::{LogOutput, Sink};

/// The options of the commands that write log events.
#[derive(Debug, Args)]
pub(super) struct LogArguments {
    /// Format of log events on standard error [default: human on a terminal, else json].
    #[arg(long, env = "PORTCULLIS_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// Filter of log events: error, warn, info, debug, trace or off, and directives for parts of
    /// the program such as `lb=debug`, separated by commas [default: info; `demo`: off].
    #[arg(long, env = "PORTCULLIS_LOG")]
    log: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Text for people.
    Human,
    /// One JSON object on each line.
    Json,
}

impl LogArguments {
    /// Runs `action` with log events written to standard error, which does not block it. `usual` is
    /// the filter if neither the command line nor the environment gives one.
    ///
    /// Returns the exit code of `action`, or 1 if logging cannot be set up.
    pub(super) fn logged(&self, usual: &str, action: impl FnOnce() -> ExitCode) -> ExitCode {
        let sink = match Sink::open(LogOutput::Stderr, |lost| {
            format!("{lost} log events were lost\n")
        }) {
            Ok(sink) => sink,
            Err(error) => return fail(&error),
        };
        let filter = match log_filter::log_filter(self.log.as_deref().unwrap_or(usual)) {
            Ok(filter) => filter,
            Err(error) => return fail(&error),
        };
        let terminal = io::stderr().is_terminal();
        let human = if terminal {
            LogFormat::Human
        } else {
            LogFormat::Json
        };
        let colour = is_colour_wanted(var_os("NO_COLOR"), var_os("TERM"));
        let highest = <Targets as Layer<Registry>>::max_level_hint(&filter);
        let writer = sink.clone();
        let events = tracing_subscriber::fmt()
            .with_max_level(highest.unwrap_or(LevelFilter::TRACE))
            .with_target(false)
            .with_writer(move || writer.clone());
        let set = match self.log_format.unwrap_or(human) {
            LogFormat::Human => {
                let events = events.with_ansi(terminal && colour);
                set_global_default(events.finish().with(filter))
            }
            LogFormat::Json => {
                let events = events
                    .fmt_fields(JsonFields::new())
                    .event_format(JsonEvents::default());
                set_global_default(events.finish().with(filter))
            }
        };
        if let Err(error) = set {
            return fail(&error);
        }
        let code = action();
        sink.flush();
        code
    }
}

/// Returns true if a terminal may be sent colours, given the values of `NO_COLOR` and `TERM`.
fn is_colour_wanted(no_color: Option<OsString>, term: Option<OsString>) -> bool {
    no_color.is_none_or(|value| value.is_empty()) && term.is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_can_show_them_and_people_who_want_them() {
        for (no_color, term, wanted) in [
            (None, Some("xterm"), true),
            (None, None, true),
            (Some(""), Some("xterm"), true),
            (Some("1"), Some("xterm"), false),
            (Some("0"), Some("xterm"), false),
            (None, Some("dumb"), false),
        ] {
            let answer = is_colour_wanted(no_color.map(Into::into), term.map(Into::into));
            assert_eq!(answer, wanted, "{no_color:?} {term:?}");
        }
    }
}
