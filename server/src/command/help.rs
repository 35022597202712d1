//! Texts that follow the options in `--help`.

/// Exit codes, after the help of the whole program.
pub(super) const EXIT_CODES: &str = "Exit codes:
  0  done; the gateway drained in time
  1  \
                                     failed, or not valid
  2  wrong usage
  3  `diff` found a \
                                     difference, or `explain` says denied
  4  the gateway \
                                     drained, and connections that were left were cut off";
/// Signals, after the help of `run`.
pub(super) const SIGNALS: &str = "\
Signals:
  HUP        reload the policy and all files that it names
  USR1       open the file of access records again
  USR2       upgrade to the program that is now where this one was started from
  TERM, INT  drain, then end; a second one ends at once";
