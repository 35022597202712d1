//! Work at the lowest priority, which gives way to all other work of the machine.
//!
//! ```
//! let sum = host::priority::lowest(|| (1..=4).sum::<u32>()).unwrap();
//! assert_eq!(sum, 10);
//! ```

use std::io;
use std::panic::resume_unwind;
use std::thread::{Builder, scope};

/// The nice value of such work, the highest that Linux has.
const LOWEST: i32 = 19;

/// Does some work at the lowest priority and waits for its end. A panic of the work continues in
/// the caller.
///
/// It is done on a thread of its own: a thread without privileges cannot raise its priority again
/// (`nice(2)`), and a thread with a low one would block others at each lock that it holds.
///
/// # Errors
///
/// The thread cannot be started.
pub fn lowest<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    scope(|scope| {
        let working = Builder::new()
            .name("reading".to_owned())
            .spawn_scoped(scope, || {
                // Linux has a nice value for each thread (sched(7)), and the threads that it starts
                // get the same. If it cannot be set, the work is done all the same.
                rustix::process::nice(LOWEST).ok();
                work()
            })?;
        Ok(working.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn the_work_has_the_lowest_priority_and_what_follows_it_the_usual_one() {
        let priority = || getpriority_process(None).unwrap();
        let usual = priority();
        assert_eq!(lowest(priority).unwrap(), (usual + LOWEST).min(LOWEST));
        assert_eq!(priority(), usual);
    }

    #[test]
    #[should_panic(expected = "the work is broken")]
    fn a_panic_of_the_work_is_the_callers() {
        drop(lowest(|| panic!("the work is broken")));
    }
}
