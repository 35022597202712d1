//! Environment variables for options, with the values that operators and orchestrators use.

use clap::{Arg, ArgAction, Command};

/// Values that turn an option on, and values that leave it off.
const WORDS: [(&str, bool); 10] = [
    ("true", true),
    ("1", true),
    ("yes", true),
    ("on", true),
    ("y", true),
    ("false", false),
    ("0", false),
    ("no", false),
    ("off", false),
    ("n", false),
];

/// Options that `run` shares with other commands, and their variables. A variable is for `run`
/// alone: the environment of a service does not change the answer of a command that is typed there.
const OF_RUN: [(&str, &str); 2] = [
    ("instance", "PORTCULLIS_INSTANCE"),
    ("bpffs", "PORTCULLIS_BPFFS"),
];

/// Extends the command line: `run` gets variables for all its options. An empty variable counts as
/// not set, and variables of options without a value accept the usual words for yes and no.
pub(super) fn with_variables(command: Command) -> Command {
    lenient(command.mut_subcommand("run", |run| {
        OF_RUN.iter().fold(run, |run, &(option, variable)| {
            run.mut_arg(option, |argument| argument.env(variable))
        })
    }))
}

fn lenient(command: Command) -> Command {
    command
        .mut_args(|argument| with_words(without_empty(argument)))
        .mut_subcommands(lenient)
}

fn without_empty(argument: Arg) -> Arg {
    let is_empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
    if argument.get_env().is_some_and(is_empty) {
        argument.env(None::<&str>)
    } else {
        argument
    }
}

fn with_words(argument: Arg) -> Arg {
    if matches!(argument.get_action(), ArgAction::SetTrue) {
        argument.value_parser(flag)
    } else {
        argument
    }
}

fn flag(said: &str) -> Result<bool, String> {
    let said = said.to_ascii_lowercase();
    let found = WORDS.iter().find(|(word, _)| *word == said);
    found.map(|(_, value)| *value).ok_or_else(|| {
        "expected `true` or `false`, `yes` or `no`, `on` or `off`, `1` or `0`".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_takes_the_usual_words_for_yes_and_no() {
        for word in ["1", "true", "yes", "ON", "y"] {
            assert_eq!(flag(word), Ok(true), "{word}");
        }
        for word in ["0", "False", "no", "off", "n"] {
            assert_eq!(flag(word), Ok(false), "{word}");
        }
        assert!(flag("perhaps").is_err() && flag("").is_err());
    }
}
