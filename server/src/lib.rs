//! Portcullis: a gateway for TCP services.
//!
//! A client's certificate names the client, SNI names the service, the policy decides about access,
//! number of connections and rate, and the least-loaded healthy upstream gets the connection.
#![forbid(unsafe_code)]

mod check;
pub mod command;
mod demo;
mod expiring;
mod finding;
mod load;
mod run;
#[cfg(test)]
#[path = "../../gateway/src/test_support.rs"]
#[expect(dead_code, reason = "tests of the process need the files alone")]
mod test_support;
mod upgrade;
