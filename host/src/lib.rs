//! Services of the machine that a gateway uses.
//!
//! It knows no policy and no TLS: its functions take values and say what the machine answered.

#![forbid(unsafe_code)]

pub mod affinity;
pub mod channel;
pub mod directory;
pub mod fd_limit;
pub mod file;
pub mod file_watch;
pub mod heartbeat;
pub mod inherited_listeners;
pub mod launcher;
pub mod log_writer;
pub mod memory_gauge;
pub mod parent;
pub mod priority;
pub mod program;
pub mod replace;
pub mod signals;
pub mod socket_file;
pub mod systemd;
pub mod table;
pub mod timestamp;
pub mod unique_id;
