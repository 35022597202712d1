//! The result of a step of a measurement.

use std::error::Error;

/// Result of a step of the benchmark. Any error ends the run.
pub(crate) type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;
