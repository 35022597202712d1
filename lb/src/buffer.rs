//! Buffers for bytes in flight, reused within a thread.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

/// A full TLS record is 16 KiB; four of them go out in one write.
pub(crate) const BUFFER_SIZE: usize = 64 * 1024;

/// How many unused buffers a thread keeps.
const KEPT: usize = 64;

thread_local! {
    static UNUSED: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer that goes back to its thread's pool on drop.
#[derive(Debug)]
pub(crate) struct Buffer {
    // Empty only while it is dropped; an empty box allocates nothing.
    bytes: Box<[u8]>,
}

impl Buffer {
    pub(crate) fn take() -> Self {
        let unused = UNUSED.with_borrow_mut(Vec::pop);
        Self {
            bytes: unused.unwrap_or_else(|| vec![0; BUFFER_SIZE].into_boxed_slice()),
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // A thread that is ending has no pool any more, and needs none.
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
        drop(Buffer::take());
        assert_eq!(unused(), 1);
        let again = Buffer::take();
        assert_eq!((again.len(), unused()), (BUFFER_SIZE, 0));
        let many: Vec<_> = (0..2 * KEPT).map(|_| Buffer::take()).collect();
        drop(many);
        assert_eq!(unused(), KEPT);
    }
}
