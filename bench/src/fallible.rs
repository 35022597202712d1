//! The result of a step of a measurement.

use std::error::Error;

/// What goes wrong ends the run.
pub(crate) type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;
