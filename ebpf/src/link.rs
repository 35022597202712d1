//! Whether the programs decide for this network namespace: a pin alone does not say so.

use std::fs;
use std::io;
use std::os::linux::fs::MetadataExt;

use crate::object::LINK;
use crate::{PinDir, SteerError, sys};

/// The network namespace of the calling thread.
pub(crate) const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Where the programs of an instance are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachmentState {
    /// To this network namespace: they decide where connections go.
    Here,
    /// To another one.
    Elsewhere,
    /// Nowhere: somebody has removed or detached the link, or its namespace is gone.
    Nowhere,
    /// Only who has loaded them may know.
    Hidden,
}

impl AttachmentState {
    /// Looks at the link.
    pub fn of(pin_dir: &PinDir) -> Result<Self, SteerError> {
        let namespace = match sys::link_namespace(&pin_dir.pin(LINK)) {
            Ok(namespace) => namespace,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Nowhere),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Self::Hidden);
            }
            Err(error) => return Err(SteerError::system("the link cannot be looked at")(error)),
        };
        let own = fs::metadata(NAMESPACE)
            .map_err(SteerError::system(
                "the network namespace cannot be looked at",
            ))?
            .st_ino();
        Ok(match u64::from(namespace) {
            0 => Self::Nowhere,
            namespace if namespace == own => Self::Here,
            _ => Self::Elsewhere,
        })
    }
}
