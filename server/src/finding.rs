//! What is noticed about a policy and its files that does not keep them from being served.

use std::fmt;

/// Something that an operator should look at. `check` prints it as a warning; start and reload log it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    place: String,
    what: String,
}

impl Finding {
    /// A finding about a key of the policy, or about a file and perhaps a line in it.
    pub fn new(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self {
            place: place.to_string(),
            what: what.to_string(),
        }
    }

    /// Where it was found.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What it is.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}
