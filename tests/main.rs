//! Promises kept from outside: a real gateway process, real sockets, real TLS. One file a promise.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "a test's runtime ends its tasks")]

mod harness;

mod admin;
mod authentication;
mod authorization;
mod balancing;
mod command;
mod drain;
mod ends;
mod expiry;
mod files;
mod findings;
mod first_bytes;
mod framing;
mod grants;
mod half_close;
mod health;
mod limits;
mod listening;
mod no_oracle;
mod records;
mod reload;
mod resumption;
mod revocation;
mod service;
mod soak;
mod steering;
mod timeouts;
mod trust;
mod upgrade;
mod waiting;
mod workers;
