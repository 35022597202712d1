//! The file of a Unix socket. A file at its path is examined before it is removed.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::Path;

/// Mode of the socket's file: owner and group may connect.
const MODE: u32 = 0o660;

/// Returns the device and the inode of the socket at a path; `None` if there is no socket.
pub fn socket_at(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let is_socket = metadata.file_type().is_socket();
    is_socket.then(|| (metadata.dev(), metadata.ino()))
}

/// Removes a socket's file, unless something else is at the path by now.
///
/// # Errors
///
/// The file cannot be removed.
pub fn remove(path: &Path, socket: Option<(u64, u64)>) -> io::Result<()> {
    if socket.is_some() && socket_at(path) == socket {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Binds a socket at a path. A socket that no process listens at is replaced; if a process listens
/// there, or if the file is not a socket, that is an error.
///
/// # Errors
///
/// `AddrInUse`: a process listens there. `AlreadyExists`: the file is not a socket. Others: no
/// socket can be made there, or its mode cannot be set.
pub fn bind(path: &Path) -> io::Result<StdListener> {
    let listener = match StdListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let found = socket_at(path).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "the path exists and is not a socket",
                )
            })?;
            if StdStream::connect(path).is_ok() {
                return Err(error);
            }
            remove(path, Some(found))?;
            StdListener::bind(path)?
        }
        bound => bound?,
    };
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    Ok(listener)
}
