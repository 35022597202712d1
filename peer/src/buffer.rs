//! Buffers for bytes in flight, reused within a thread.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Length of a buffer: the most that a relay moves at once, and 1 KiB for what a protocol around it
/// adds.
const LENGTH: usize = 129 * 1024;

/// Size of a memory page in bytes, to which buffers are aligned.
const PAGE: usize = 4096;

/// Most unused buffers that a thread keeps.
const KEPT: usize = 32;

thread_local! {
    static UNUSED: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Use of a buffer, which decides at which offset of a memory page it begins.
///
/// On some processors (AMD Zen 3 is one) `rep movsb` falls to a twentieth of its speed when the
/// destination lies less than 64 bytes behind the source, both taken within their pages. Data is
/// sealed from one buffer into another, so the two begin half a page apart, whatever the allocator
/// does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BufferUse {
    /// Bytes as they were read. The buffer begins where a page begins.
    Read,
    /// Bytes made from those in another buffer. The buffer begins in the middle of a page.
    Framed,
}

impl BufferUse {
    const fn offset(self) -> usize {
        match self {
            Self::Read => 0,
            Self::Framed => PAGE / 2,
        }
    }
}

/// A buffer for bytes in flight, which goes back to its thread's pool on drop.
///
/// It holds a little more than a relay moves at once, so that a [`Downstream`](crate::Downstream)
/// which frames or encrypts can do so with all of it. The content is left from its last use.
///
/// ```
/// use peer::{BufferUse, PooledBuffer};
///
/// let mut buffer = PooledBuffer::take(BufferUse::Read);
/// buffer[..5].copy_from_slice(b"hello");
/// assert!(buffer.len() > 128 * 1024);
/// ```
#[derive(Debug)]
pub struct PooledBuffer {
    // It is empty only while it is dropped; an empty box allocates nothing.
    bytes: Box<[u8]>,
    /// Offset of the buffer in the allocation.
    start: usize,
}

impl PooledBuffer {
    /// Takes a buffer of the thread's pool, or a new one, at the page offset of its [`BufferUse`].
    pub fn take(buffer_use: BufferUse) -> Self {
        let unused = UNUSED.with_borrow_mut(Vec::pop);
        let bytes = unused.unwrap_or_else(|| vec![0; LENGTH + 2 * PAGE].into_boxed_slice());
        let start = bytes.as_ptr().align_offset(PAGE) + buffer_use.offset();
        Self { bytes, start }
    }
}

impl Deref for PooledBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..][..LENGTH]
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..LENGTH]
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // The pool of a thread that is ending is gone, and no longer needed.
        UNUSED
            .try_with(|unused| {
                let mut unused = unused.borrow_mut();
                if unused.len() < KEPT {
                    unused.push(bytes);
                }
            })
            .ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unused() -> usize {
        UNUSED.with_borrow(Vec::len)
    }

    #[test]
    fn a_dropped_buffer_is_used_again_and_only_so_many_are_kept() {
        drop(PooledBuffer::take(BufferUse::Read));
        assert_eq!(unused(), 1);
        let again = PooledBuffer::take(BufferUse::Framed);
        assert_eq!((again.len(), unused()), (LENGTH, 0));
        let many: Vec<_> = (0..2 * KEPT)
            .map(|_| PooledBuffer::take(BufferUse::Read))
            .collect();
        drop(many);
        assert_eq!(unused(), KEPT);
    }

    #[test]
    fn a_buffer_begins_at_the_offset_of_its_use_whatever_the_allocator_does() {
        // Allocations of odd sizes move what the allocator hands out next.
        let mut odd: Vec<Vec<u8>> = Vec::new();
        let mut held = Vec::new();
        for size in (1..200_000).step_by(3_977) {
            odd.push(vec![1; size]);
            for buffer_use in [BufferUse::Read, BufferUse::Framed] {
                let buffer = PooledBuffer::take(buffer_use);
                assert_eq!(buffer.as_ptr().addr() % PAGE, buffer_use.offset());
                assert_eq!(buffer.len(), LENGTH);
                held.push(buffer);
            }
        }
        // The same buffers again, now for the other use.
        drop(held);
        let again = PooledBuffer::take(BufferUse::Read);
        assert_eq!(again.as_ptr().addr() % PAGE, 0);
    }
}
