//! What the command promises to those who call it, asked of the real binary.

mod batches;
mod desk;
mod issuing;
mod lifetime;
mod revoking;
