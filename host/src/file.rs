//! Bounded reads of whole regular files.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! # let dir = tempfile::tempdir()?;
//! let path = dir.path().join("motd");
//! std::fs::write(&path, "hello")?;
//! assert_eq!(host::file::read(&path, 5)?, b"hello");
//! assert_eq!(
//!     host::file::read(&path, 4).unwrap_err().kind(),
//!     std::io::ErrorKind::FileTooLarge
//! );
//! # Ok(())
//! # }
//! ```

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

/// Reads a regular file of at most `most` bytes.
///
/// Kind and size are checked on the opened file, so replacing the path in the meantime changes
/// nothing.
///
/// # Errors
///
/// The file cannot be opened or read, is not a regular file (`InvalidInput`), or is larger than
/// `most` (`FileTooLarge`).
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Without `O_NONBLOCK`, opening a pipe that has no writer would wait for one.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("it is {}, not a regular file", kind(&metadata)),
        ));
    }
    let expected = metadata.len().min(most);
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {most} bytes"),
        ));
    }
    Ok(bytes)
}

/// Reads a regular file of at most `most` bytes as text.
///
/// # Errors
///
/// Those of [`read`]; `InvalidData` if the bytes are not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

fn kind(metadata: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Returns true for a system error that can be temporary with the same files: a resource was
/// exhausted, or a network file system did not answer.
///
/// An error that [`read`] makes itself, such as that of a file that is too large, is not one of
/// them.
pub fn may_pass(error: &io::Error) -> bool {
    use rustix::io::Errno;
    Errno::from_io_error(error).is_some_and(|errno| {
        matches!(
            errno,
            Errno::MFILE
                | Errno::NFILE
                | Errno::NOMEM
                | Errno::NOBUFS
                | Errno::IO
                | Errno::STALE
                | Errno::AGAIN
                | Errno::INTR
                | Errno::TIMEDOUT
                | Errno::BUSY
                | Errno::REMOTEIO
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::NOTCONN
                | Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::CONNREFUSED
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound_and_what_is_no_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "1234").unwrap();
        assert_eq!(read(&file, 4).unwrap(), b"1234");
        let larger = read(&file, 3).unwrap_err();
        assert_eq!(larger.to_string(), "it is larger than 3 bytes");
        for (path, what) in [("/dev/zero", "a device"), ("/dev", "a directory")] {
            let refused = read(Path::new(path), 4).unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!("it is {what}, not a regular file")
            );
            assert!(!may_pass(&refused));
        }
    }

    #[test]
    fn what_is_short_may_pass_and_what_is_missing_does_not() {
        use rustix::io::Errno;
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO] {
            assert!(may_pass(&errno.into()), "{errno}");
        }
        for errno in [Errno::NOENT, Errno::ACCESS, Errno::ISDIR, Errno::LOOP] {
            assert!(!may_pass(&errno.into()), "{errno}");
        }
    }
}
