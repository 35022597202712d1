//! Why steering cannot be had, in the operator's words.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::pin::PinError;
use aya::programs::ProgramError;
use thiserror::Error;

/// Why steering cannot be had.
#[derive(Debug, Error)]
pub enum SteerError {
    /// The directory is in no bpffs.
    #[error(
        "{path} is in no bpffs: mount one (`mount -t bpf -o mode=0755 bpf /sys/fs/bpf`), or name another with --bpffs",
        path = .0.display()
    )]
    NoBpffs(PathBuf),
    /// The directory can be changed by somebody who could have others' connections.
    #[error("{path}: user {user} (mode {mode:o}) could change what is pinned there: remove it, and mount the bpffs with mode=0755", path = .path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        user: u32,
        /// Its mode.
        mode: u32,
    },
    /// The programs that are pinned there decide for another network namespace.
    #[error("{path} is loaded in another network namespace: choose another --instance", path = .0.display())]
    Elsewhere(PathBuf),
    /// Nothing was loaded there.
    #[error("nothing is loaded in {path}: run `portcullis steer load` as root", path = .0.display())]
    NotLoaded(PathBuf),
    /// The process lacks a capability.
    #[error(
        "loading needs CAP_BPF and CAP_NET_ADMIN, and this process lacks {0}: run `portcullis steer load` as root once"
    )]
    Capability(&'static str),
    /// The pinned maps belong to somebody else.
    #[error("{path} is not this user's: name the user with `portcullis steer load --user`", path = .0.display())]
    NotOurs(PathBuf),
    /// A pinned map is not what this version makes.
    #[error(
        "{path} was made by another version ({what}): run `portcullis steer unload` and `portcullis steer load`",
        path = .path.display()
    )]
    Incompatible {
        /// The map's pin.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// Another gateway has its listeners there.
    #[error("another gateway is {role} of the instance in {path}", path = .path.display())]
    Taken {
        /// The instance.
        path: PathBuf,
        /// What it is.
        role: crate::Role,
    },
    /// There are more workers than slots.
    #[error("{0} workers are too many to steer to: at most {most}", most = crate::MOST_WORKERS)]
    TooManyWorkers(usize),
    /// The kernel refused the programs or maps.
    #[error("the kernel does not take the programs (Linux 5.14 or newer is needed): {0}")]
    Load(#[from] EbpfError),
    /// The kernel refused a program or its attachment.
    #[error("the kernel does not take a program: {0}")]
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
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl SteerError {
    /// What makes a system's error one of these.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::System { what, source }
    }
}
