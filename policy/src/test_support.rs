//! What tests of the policy share.

use crate::policy::Policy;

/// Four lines, so that `groups:` is line 5.
pub(crate) const HEAD: &str = "version: 1
gateway: {listen: ['[::]:8443'],
  tls: {certificate: s.crt, key: s.key, client_ca: ca.crt}}
# The rest is the test's.
";

/// Returns the text of a policy: [`HEAD`] and what a test adds.
pub(crate) fn with(rest: &str) -> String {
    format!("{HEAD}{rest}")
}

/// Parses a text that is a policy.
pub(crate) fn policy(text: &str) -> Policy {
    Policy::parse("p.yaml", text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Returns the next number, below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Two groups, in one line.
pub(crate) const GROUPS: &str =
    "groups: {web: {upstreams: ['10.0.0.1:1']}, ledger: {upstreams: ['10.0.0.1:1']}}\n";

/// Returns the message with which a text is refused.
pub(crate) fn refused(text: &str) -> String {
    Policy::parse("p.yaml", text)
        .map(|_| text)
        .expect_err("no policy")
        .to_string()
}

/// Asserts that `text` is refused for `message`, perhaps among others.
pub(crate) fn assert_told(text: &str, message: &str) {
    let told = refused(text);
    assert!(
        told.lines().any(|line| line == format!("p.yaml:{message}")),
        "{message}\n{told}"
    );
}
