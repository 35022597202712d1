//! State of an instance's attachment to a network namespace, which a pin alone does not show.

use std::fs;
use std::io;
use std::os::linux::fs::MetadataExt;

use crate::error::SteerError;
use crate::maps::LINK;
use crate::pin_dir::PinDir;
use crate::sys;

/// Path of the network namespace of the calling thread.
pub(crate) const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Attachment of an instance's programs, relative to this network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachmentState {
    /// Attached to this network namespace: they decide where connections go.
    Here,
    /// Attached to another network namespace.
    Elsewhere,
    /// Not attached: the link was removed or detached, or its namespace is gone.
    Nowhere,
    /// Unknown: the process may not open the link; the user that loaded the programs can.
    Hidden,
}

impl AttachmentState {
    /// Reads the state of the instance's pinned link.
    ///
    /// # Errors
    ///
    /// [`SteerError::System`] if the link or the process's network namespace cannot be inspected. A
    /// missing link and one that the process may not open are states, not errors.
    pub fn of(pin_dir: &PinDir) -> Result<Self, SteerError> {
        let namespace = match sys::link_namespace(&pin_dir.pin(LINK)) {
            Ok(namespace) => namespace,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Nowhere),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Self::Hidden);
            }
            Err(error) => return Err(SteerError::system("cannot inspect the link")(error)),
        };
        let own = fs::metadata(NAMESPACE)
            .map_err(SteerError::system("cannot inspect the network namespace"))?
            .st_ino();
        Ok(match u64::from(namespace) {
            0 => Self::Nowhere,
            namespace if namespace == own => Self::Here,
            _ => Self::Elsewhere,
        })
    }
}
