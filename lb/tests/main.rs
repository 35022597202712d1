//! What an embedder may expect, in one binary.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests have clients and upstreams"
)]

mod configuration;
mod load_balancer;
