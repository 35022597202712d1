//! Upgrades: a new process replaces the old one, and no client notices.
//!
//! The old process has a launcher start the new one, so that it is not its child (see [`launch`]),
//! with a socket as its standard input. It hands over the listening sockets themselves
//! (`SCM_RIGHTS`, unix(7)), so that no connection that waits to be accepted is lost. Until the new
//! process reports that it is ready, nothing has changed. Then the old one sends the list of its
//! connections, and the new one counts them as its own. From then on the new one decides for both:
//! the old one asks it about every client whose handshake is complete, and reports each connection
//! that ends. As soon as the new one accepts, the old one accepts no more; it ends with its last
//! connection. If the new one fails before that, the old one decides and serves as before.

mod error;
mod new_process;
mod old_process;
mod old_process_reports;
mod protocol;
mod supervision;

pub(crate) use error::UpgradeError;
pub(crate) use host::launcher::launch;
pub(crate) use host::parent::ParentLink;
pub(crate) use host::parent::ParentProcess;
pub(crate) use new_process::ForwardedCommands;
pub(crate) use new_process::{InheritError, OldProcess};
pub(crate) use old_process::CandidateProcess;
pub(crate) use old_process_reports::{NewProcess, OldProcessCommand, OldProcessNews};
pub(crate) use protocol::MESSAGE_SET;
pub(crate) use supervision::Supervision;
