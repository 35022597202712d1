//! Calls of bpf(2) and mmap(2) that steering needs and aya does not provide.
#![expect(unsafe_code, reason = "system calls with pointers")]

use std::ffi::{CString, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use ebpf_common::{Load, MOST_WORKERS, ROLES};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// `BPF_OBJ_GET` of `linux/bpf.h`.
const OBJECT_GET: libc::c_long = 7;
/// `BPF_OBJ_GET_INFO_BY_FD`.
const OBJECT_INFO: libc::c_long = 15;
/// `BPF_PROG_QUERY`.
const PROG_QUERY: libc::c_long = 16;
/// `BPF_MAP_UPDATE_BATCH`.
const UPDATE_BATCH: libc::c_long = 26;
/// `BPF_MAP_DELETE_BATCH`.
const DELETE_BATCH: libc::c_long = 27;
/// `BPF_LINK_UPDATE`.
const LINK_UPDATE: libc::c_long = 29;
/// `BPF_LINK_DETACH`.
const LINK_DETACH: libc::c_long = 34;
/// `BPF_SK_LOOKUP`, the attach type.
const SK_LOOKUP: u32 = 36;
/// Size of the buffer for a namespace's programs; the kernel attaches at most 64.
const MOST_PROGRAMS: usize = 64;

/// The part of `union bpf_attr` for batches.
#[repr(C)]
struct BatchAttr {
    first: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

#[repr(C)]
struct ProgramQuery {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    more: [u32; 9],
}

#[repr(C)]
struct ObjectInfo {
    object: u32,
    length: u32,
    info: u64,
}

/// `struct bpf_link_info` of a link to a network namespace.
#[repr(C, align(8))]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    namespace: u32,
    attach_type: u32,
    more: [u64; 8],
}

#[repr(C)]
struct ObjectGet {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// Calls bpf(2) with one part of `union bpf_attr`; returns its result, such as a descriptor.
fn bpf<T>(command: libc::c_long, attribute: &mut T) -> io::Result<RawFd> {
    // SAFETY: the attribute is as long as is said, its unused bytes are zero, and what it points to
    // outlives the call in every caller.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            ptr::from_mut(attribute),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}

fn number(descriptor: RawFd) -> u32 {
    u32::try_from(descriptor).expect("descriptors are not negative")
}

/// Puts all keys into a map with the value 1, in one call.
pub(crate) fn put_all<const N: usize>(map: BorrowedFd<'_>, keys: &[[u8; N]]) -> io::Result<()> {
    let values = vec![1_u8; keys.len()];
    batch(UPDATE_BATCH, map, keys, values.as_ptr() as u64)
}

/// Removes all keys from a map, in one call.
pub(crate) fn remove_all<const N: usize>(map: BorrowedFd<'_>, keys: &[[u8; N]]) -> io::Result<()> {
    batch(DELETE_BATCH, map, keys, 0)
}

fn batch<const N: usize>(
    command: libc::c_long,
    map: BorrowedFd<'_>,
    keys: &[[u8; N]],
    values: u64,
) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut attribute = BatchAttr {
        first: 0,
        next: 0,
        keys: keys.as_ptr() as u64,
        values,
        count: u32::try_from(keys.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        map: number(map.as_raw_fd()),
        element_flags: 0,
        flags: 0,
    };
    bpf(command, &mut attribute).map(drop)
}

/// Replaces the program of a pinned link.
pub(crate) fn update_link(pin: &Path, program: impl AsFd) -> io::Result<()> {
    let link = pinned(pin)?;
    let mut attribute = LinkUpdate {
        link: number(link.as_raw_fd()),
        program: number(program.as_fd().as_raw_fd()),
        flags: 0,
        old_program: 0,
    };
    bpf(LINK_UPDATE, &mut attribute).map(drop)
}

/// Detaches a pinned link: its program does not run any more when this returns.
///
/// The kernel does the same, a little later, when the last descriptor and pin of a link are gone.
pub(crate) fn detach_link(pin: &Path) -> io::Result<()> {
    let pinned = pinned(pin)?;
    let mut link = number(pinned.as_raw_fd());
    bpf(LINK_DETACH, &mut link).map(drop)
}

/// Inode of the network namespace that a pinned link is attached to; 0 if it is detached.
pub(crate) fn link_namespace(pin: &Path) -> io::Result<u32> {
    let link = pinned(pin)?;
    let mut info = LinkInfo::default();
    let mut attribute = ObjectInfo {
        object: number(link.as_raw_fd()),
        length: u32::try_from(size_of::<LinkInfo>()).unwrap_or(0),
        info: ptr::from_mut(&mut info) as u64,
    };
    bpf(OBJECT_INFO, &mut attribute)?;
    Ok(info.namespace)
}

fn pinned(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attribute = ObjectGet {
        path: path.as_ptr() as u64,
        descriptor: 0,
        flags: 0,
    };
    let link = bpf(OBJECT_GET, &mut attribute)?;
    // SAFETY: the call has just made it, and it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// Numbers of the programs at the `sk_lookup` hook of a network namespace.
pub(crate) fn lookup_programs(namespace: impl AsFd) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; MOST_PROGRAMS];
    let mut attribute = ProgramQuery {
        target: number(namespace.as_fd().as_raw_fd()),
        attach_type: SK_LOOKUP,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: u32::try_from(ids.len()).unwrap_or(0),
        more: [0; 9],
    };
    bpf(PROG_QUERY, &mut attribute)?;
    ids.truncate(attribute.count as usize);
    Ok(ids)
}

/// Mapping of the workers' loads, shared with the kernel.
#[derive(Debug)]
pub(crate) struct SharedLoads(NonNull<LoadSlot>);

/// One worker's [`Load`] with atomic fields, as this process and the kernel write it.
#[repr(C)]
pub(crate) struct LoadSlot {
    pub(crate) open: AtomicU64,
    pub(crate) chosen: AtomicU64,
}

const _: () = assert!(size_of::<LoadSlot>() == size_of::<Load>());
const SLOTS: usize = (ROLES * MOST_WORKERS) as usize;
const LENGTH: usize = SLOTS * size_of::<LoadSlot>();

// SAFETY: all that is behind the pointer is atomic, and lives as long as the mapping.
unsafe impl Send for SharedLoads {}
// SAFETY: as above.
unsafe impl Sync for SharedLoads {}

impl SharedLoads {
    /// Maps the table of loads, a `BPF_F_MMAPABLE` array of [`ROLES`] `ebpf_common::Loads`.
    pub(crate) fn map(table: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: the kernel chooses the address; nothing else is mapped there.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                LENGTH,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                table,
                0,
            )
        }?;
        NonNull::new(start.cast())
            .map(Self)
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    pub(crate) fn slots(&self) -> &[LoadSlot] {
        // SAFETY: the mapping has this many slots, is aligned to a page, and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), SLOTS) }
    }
}

impl Drop for SharedLoads {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and no borrow outlives self. It cannot fail so.
        unsafe { munmap(self.0.as_ptr().cast::<c_void>(), LENGTH) }.ok();
    }
}
