//! What the command promises to those who call it, asked of the real binary.

mod desk;
mod issuing;
mod lifetime;
mod revoking;
