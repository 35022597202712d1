//! What an embedder may expect, in one binary.

mod configuration;
mod load_balancer;
