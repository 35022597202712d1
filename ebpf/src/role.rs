//! Roles of gateways in an instance.

use std::fmt;

/// Role of a gateway in an instance; each can be held by one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The gateway that serves.
    Primary,
    /// The gateway that serves while there is no primary.
    Standby,
}

impl Role {
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Primary => 0,
            Self::Standby => 1,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "the primary",
            Self::Standby => "the standby",
        })
    }
}
