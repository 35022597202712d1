//! What the programs in the kernel and their loader share: the layout of map keys and values, and
//! what is decided about an arriving connection, as plain functions that are tested on the host.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod choice;
mod steering;

pub use choice::{Load, Loads, MOST_WORKERS, ROLES, RoleEntry, index, least, nth, slot};
pub use steering::{
    Arrival, Counters, Destination, PORT_BITS, Source, Tables, Verdict, mapped, network, verdict,
};
