//! Portcullis: a gateway for TCP services.
//!
//! A client's certificate says who it is, SNI says where it wants to go, the policy says whether it
//! may, how often and how fast, and the least-loaded healthy upstream gets the connection.
#![forbid(unsafe_code)]

pub mod admin;
pub mod admission;
mod affinity;
mod arrival;
pub mod budget;
pub mod check;
pub mod command;
mod connection;
mod credentials;
pub mod demo;
pub mod descriptors;
mod doors;
pub mod downstream;
mod expiry;
mod failures;
mod file;
pub mod finding;
pub mod first_bytes;
pub mod gateway;
mod handshake;
pub mod hello;
pub mod identity;
pub mod inherited;
pub mod live;
pub mod load;
mod memory;
mod own_certificate;
pub mod policy;
mod priority;
pub mod program;
pub mod proxy_header;
mod pulse;
pub mod record;
pub mod record_layer;
mod refusals;
pub mod rejection;
pub mod run;
pub mod running;
pub mod settings;
pub mod sink;
pub mod steer;
pub mod succession;
pub mod systemd;
mod table;
mod ticket;
pub mod tls;
pub mod tls_probe;
pub mod tls_words;
pub mod trust;
pub mod verifier;
pub mod watch;
pub mod worker;
