//! What the targets of the record layer share: a handshake that costs microseconds, a client that
//! says what it likes behind it, and the comparison of the gateway's record layer with rustls' own.

pub mod beside_rustls;
pub mod client;
pub mod configs;
pub mod generator;
mod listed;
mod toy;
