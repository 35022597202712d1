//! Errors of steering, with advice for the operator.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::pin::PinError;
use aya::programs::ProgramError;
use ebpf_common::MOST_WORKERS;
use thiserror::Error;

use crate::role::Role;

/// Errors of loading, using and unloading steering.
#[derive(Debug, Error)]
pub enum SteerError {
    /// The directory is not in a bpffs.
    #[error(
        "{path} is not in a bpffs; mount one (`mount -t bpf -o mode=0755 bpf /sys/fs/bpf`), or \
         name another with --bpffs",
        path = .0.display()
    )]
    NoBpffs(PathBuf),
    /// The directory can be changed by another user, who could take over connections.
    #[error(
        "user {user} could change the pins in {path} (mode {mode:o}); remove it, and mount the \
         bpffs with mode=0755",
        path = .path.display()
    )]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// The owner's user ID.
        user: u32,
        /// Its mode.
        mode: u32,
    },
    /// The instance in this directory is attached to another network namespace.
    #[error(
        "{path} is loaded in another network namespace; choose another --instance",
        path = .0.display()
    )]
    Elsewhere(PathBuf),
    /// Nothing is loaded in this directory.
    #[error(
        "nothing is loaded in {path}; run `portcullis steer load` as root",
        path = .0.display()
    )]
    NotLoaded(PathBuf),
    /// The process lacks this capability.
    #[error(
        "loading needs CAP_BPF and CAP_NET_ADMIN, and this process lacks {0}; run `portcullis \
         steer load` as root once"
    )]
    Capability(&'static str),
    /// The process may not read and write this pin.
    #[error(
        "this user has no access to {path}; name the user with `portcullis steer load --user`",
        path = .0.display()
    )]
    NotOurs(PathBuf),
    /// A pinned map has another layout than this version's.
    #[error(
        "{path} was made by another version ({what}); run `portcullis steer unload` and \
         `portcullis steer load`",
        path = .path.display()
    )]
    Incompatible {
        /// The map's pin.
        path: PathBuf,
        /// The difference: sizes of key and value, and number of entries.
        what: String,
    },
    /// Another gateway has this role of the instance.
    #[error("another gateway is {role} of the instance in {path}", path = .path.display())]
    Taken {
        /// The directory of the instance.
        path: PathBuf,
        /// The role that is taken.
        role: Role,
    },
    /// There are more workers than [`MOST_WORKERS`].
    #[error(
        "{0} workers are too many for steering; at most {most} are possible",
        most = MOST_WORKERS
    )]
    TooManyWorkers(usize),
    /// The kernel refused the programs or maps.
    #[error("the kernel rejected the programs (Linux 5.14 or newer is required): {0}")]
    Load(#[from] EbpfError),
    /// The kernel refused a program or its attachment.
    #[error("the kernel rejected a program: {0}")]
    Program(#[from] ProgramError),
    /// A pin could not be made.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A map could not be used.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// The operation that failed.
        what: String,
        /// The error of the system.
        source: io::Error,
    },
}

impl SteerError {
    /// Returns a function that adds the operation to a system's error.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::System { what, source }
    }
}
