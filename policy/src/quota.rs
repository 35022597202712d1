//! Upper bounds of numbers.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Serialize, Serializer};

/// Upper bound of a number, for example of open connections; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// Without a bound.
    Unlimited,
    /// At most this number.
    AtMost(NonZeroU32),
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::AtMost(most) => most.fmt(f),
        }
    }
}

/// Serializes as in the policy: a number, or the word `unlimited`.
impl Serialize for Quota {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unlimited => serializer.serialize_str("unlimited"),
            Self::AtMost(most) => most.serialize(serializer),
        }
    }
}
