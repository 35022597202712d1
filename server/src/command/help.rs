//! Texts that follow the options in `--help`.

/// Exit codes, after the help of the whole program.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  success; the gateway drained in time
  1  failure, or not valid
  2  wrong usage
  3  `diff` found a difference, `explain` says denied, or `expiring` found something
  4  the gateway drained, but cut connections off at the deadline";
/// Signals, after the help of `run`.
pub(super) const SIGNALS: &str = "\
Signals:
  HUP        reload the policy and all files that it names
  USR1       reopen the file of access records
  USR2       upgrade to the program that is now at the path of this one
  TERM, INT  drain, then exit; a second signal exits at once";
