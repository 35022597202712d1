//! Failures of the commands.

use std::io;
use std::path::PathBuf;

use certgen::{CertgenError, NameError};
use thiserror::Error;

/// Failures of a command.
#[derive(Debug, Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Certgen(#[from] CertgenError),
    #[error("the name {name:?} cannot be a file name")]
    FileName { name: String, source: NameError },
    #[error("{0:?} is given twice")]
    Twice(String),
    #[error("no client name is given")]
    NoClient,
    #[error("{0:?} is not a serial number; expected hexadecimal digits, with or without colons")]
    Serial(String),
    #[error("{} is not the revocation list of {}; only that list can be signed",
        .file.display(), .dir.display())]
    OtherList { file: PathBuf, dir: PathBuf },
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}
