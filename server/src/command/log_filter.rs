//! The filter of log events: the value of `--log`.

use thiserror::Error;
use tracing_subscriber::filter::Targets;

/// Names of levels, including those that other programs use, with the level that each means.
const LEVELS: [(&str, &str); 9] = [
    ("off", "off"),
    ("error", "error"),
    ("err", "error"),
    ("warn", "warn"),
    ("warning", "warn"),
    ("notice", "info"),
    ("info", "info"),
    ("debug", "debug"),
    ("trace", "trace"),
];

/// Default level of [`log_filter`], for all parts of the program without a directive.
const USUAL: &str = "info";

/// Crates that a directive for `portcullis` is for too: together they are the program.
const PARTS: [&str; 4] = ["gateway", "host", "policy", "tls"];

/// Reason why [`log_filter`] refused the value of `--log`.
#[derive(Debug, Error)]
pub(super) enum LogFilterError {
    /// A word is neither a level nor a directive.
    #[error(
        "--log: `{0}` is not a log level; expected `error`, `warn`, `info`, `debug`, `trace` or `off`, or directives such as \
         `lb=debug`, separated by commas"
    )]
    Level(String),
    /// A directive is malformed.
    #[error("--log: {0}")]
    Directive(#[from] tracing_subscriber::filter::ParseError),
}

/// Parses the value of `--log`: a level, directives for parts of the program, or both. Parts
/// without a directive have the level, or the default level if none is given.
///
/// # Errors
///
/// If a word is neither a level nor a directive, or if a directive is malformed.
pub(super) fn log_filter(log: &str) -> Result<Targets, LogFilterError> {
    Ok(directives(log)?.parse()?)
}

fn directives(log: &str) -> Result<String, LogFilterError> {
    let mut has_level = false;
    let mut directives = Vec::new();
    for part in log
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        // Directives for spans have brackets; there are no spans.
        if part.contains('=') && !part.contains(['[', '{']) {
            if let Some(level) = part.strip_prefix("portcullis=") {
                directives.extend(PARTS.map(|name| format!("{name}={level}")));
            }
            directives.push(part.to_owned());
            continue;
        }
        let lower = part.to_ascii_lowercase();
        let level = LEVELS.iter().find(|(word, _)| *word == lower);
        let (_, level) = level.ok_or_else(|| LogFilterError::Level(part.to_owned()))?;
        has_level = true;
        directives.push((*level).to_owned());
    }
    if !has_level {
        directives.insert(0, USUAL.to_owned());
    }
    Ok(directives.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_understood_in_the_words_that_are_in_use() {
        for (said, meant) in [
            ("warning", "warn"),
            ("WARN", "warn"),
            ("err", "error"),
            ("notice", "info"),
            ("debug", "debug"),
            ("off", "off"),
        ] {
            assert_eq!(directives(said).unwrap(), meant, "{said}");
        }
    }

    #[test]
    fn a_directive_for_one_part_leaves_the_others_at_their_usual_level() {
        assert_eq!(directives("lb=debug").unwrap(), "info,lb=debug");
        assert_eq!(directives("warn, lb=debug").unwrap(), "warn,lb=debug");
        assert_eq!(directives("").unwrap(), "info");
        assert_eq!(
            directives("portcullis=debug,gateway=warn").unwrap(),
            "info,gateway=debug,host=debug,policy=debug,tls=debug,portcullis=debug,gateway=warn"
        );
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_and_not_taken_for_a_part_of_the_program() {
        for wrong in [
            "verbose",
            "warn,lb",
            "2",
            "[span]",
            "lb[span]=debug",
            "lb[{client}]=debug",
        ] {
            assert!(log_filter(wrong).is_err(), "{wrong}");
        }
        assert!(log_filter("lb=loud").is_err());
    }
}
