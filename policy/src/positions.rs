//! Positions of keys in a policy's file that are not part of what the policy says.

use policy_yaml::{TextPosition, YamlNode};

/// Key of the gateway's section that findings are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKey {
    /// `gateway.ban`.
    Ban,
    /// `gateway.admin.socket`.
    AdminSocket,
    /// `gateway.limits.connections`.
    Connections,
}

/// Keys from the top of the file, each in the section of the one before it, for each [`PolicyKey`].
const PATHS: [&[&str]; 3] = [
    &["gateway", "ban"],
    &["gateway", "admin", "socket"],
    &["gateway", "limits", "connections"],
];

/// Positions of the keys; `None` for one that is not written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PolicyPositions([Option<TextPosition>; PATHS.len()]);

impl PolicyPositions {
    /// Finds the positions in the policy's file.
    pub(crate) fn find(root: &YamlNode<'_>) -> Self {
        Self(PATHS.map(|path| root.key_at(path)))
    }

    /// Returns the line and the column of a key, both counted from 1.
    pub(crate) fn of(self, key: PolicyKey) -> Option<(u32, u32)> {
        self.0[key as usize].map(|at| (at.line, at.column))
    }
}
