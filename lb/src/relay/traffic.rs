//! Counts of the bytes of a connection.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Numbers of bytes that a connection has moved, counted as they are written.
#[derive(Debug, Default)]
pub struct Traffic {
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

impl Traffic {
    /// Makes counters at zero.
    pub const fn new() -> Self {
        Self {
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    /// Returns the number of bytes that were written to the client.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Returns the number of bytes of the client that were written to the upstream.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }
}
