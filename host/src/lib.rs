//! What a gateway uses of its machine.
//!
//! It knows no policy, no TLS and no connection, and decides nothing: its functions take values and
//! say what the machine answered.

#![forbid(unsafe_code)]

pub mod file;
