//! Buffers for bytes in flight, reused within a thread.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

/// How long a buffer is: what a relay moves at once, and room for what a protocol around it adds.
const LENGTH: usize = 129 * 1024;

/// How many unused buffers a thread keeps.
const KEPT: usize = 32;

thread_local! {
    static UNUSED: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer for bytes in flight, which goes back to its thread's pool on drop.
///
/// It holds a little more than a relay moves at once, so that a [`Downstream`](crate::Downstream)
/// which frames or encrypts can do so with all of it. What is in it is left from its last use.
#[derive(Debug)]
pub struct Buffer {
    // Empty only while it is dropped; an empty box allocates nothing.
    bytes: Box<[u8]>,
}

impl Buffer {
    /// A buffer of the thread's pool, or a new one.
    pub fn take() -> Self {
        let unused = UNUSED.with_borrow_mut(Vec::pop);
        Self {
            bytes: unused.unwrap_or_else(|| vec![0; LENGTH].into_boxed_slice()),
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
        assert_eq!((again.len(), unused()), (LENGTH, 0));
        let many: Vec<_> = (0..2 * KEPT).map(|_| Buffer::take()).collect();
        drop(many);
        assert_eq!(unused(), KEPT);
    }
}
