//! Binding of threads to one processor.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! let allowed = host::affinity::processors()?;
//! host::affinity::stay_on(allowed[0])?;
//! assert_eq!(host::affinity::processors()?, allowed[..1]);
//! # Ok(())
//! # }
//! ```

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Returns the numbers of the processors that this thread may use, in ascending order, as its
/// control group, its parent or taskset(1) left them.
///
/// # Errors
///
/// The kernel has more processors than [`CpuSet::MAX_CPU`].
pub fn processors() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    let all = 0..CpuSet::MAX_CPU;
    Ok(all.filter(|&processor| allowed.is_set(processor)).collect())
}

/// Binds this thread, and those that it starts from now on, to one of its [`processors`].
///
/// # Errors
///
/// The thread may not use that processor.
pub fn stay_on(processor: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(processor);
    Ok(sched_setaffinity(None, &only)?)
}
