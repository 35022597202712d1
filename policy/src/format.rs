//! Format of the policy's file: each key once, with its description, its kind and its default.
//!
//! These tables determine the accepted keys, the defaults, the hints for a mistyped key, and the
//! JSON schema. The kinds of scalars are defined next to their parsers.

mod client;
mod gateway;
mod group;
pub(crate) mod kinds;
mod limits;
pub(crate) mod reference;
pub(crate) mod schema;
#[cfg(test)]
mod tests;

pub(crate) use client::{CLIENT, DOCUMENT, TEST, WAIT};
pub(crate) use gateway::{ACCESS_LOG, ADMIN, BAN, GATEWAY, STEER, TLS, WORKERS};
pub(crate) use group::{GROUP, GROUP_TIMEOUTS, HEALTH, SEND_EXPECT, UPSTREAM};
pub(crate) use limits::{LIMITS, TIMEOUTS};
