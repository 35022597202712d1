//! Steering: the kernel hands connections to any number of ports to one group of listeners.
//!
//! A program at the network namespace's `sk_lookup` hook (kernel documentation:
//! `bpf/prog_sk_lookup`) finds out whether a connection's destination is the gateway's, and a
//! program of the group (`SO_ATTACH_REUSEPORT_EBPF`) gives it to the worker that has the fewest
//! connections. Rules are entries of maps. Programs, maps and the attachment are pinned in a
//! directory of a bpffs: so they outlive the process, and a process without any capability can use
//! them if the files are its own.
//!
//! Steered connections never reach another process: while no gateway serves, they are refused, even
//! if something else listens on their port.

mod bans;
mod bindings;
mod error;
mod link;
mod maps;
mod object;
mod pin_dir;
mod role;
mod role_holder;
mod steering;
mod sys;
mod worker_loads;

pub use bans::BanTable;
pub use bindings::{IpPrefix, PortBinding};
pub use ebpf_common::{Counters, MOST_WORKERS};
pub use error::SteerError;
pub use link::AttachmentState;
pub use object::{PinOwner, load, unload};
pub use pin_dir::PinDir;
pub use role::Role;
pub use role_holder::RoleHolder;
pub use steering::{BindingChanges, RoleOrigin, Steering};
pub use worker_loads::WorkerLoads;
