//! Parts of the demo around its gateway: [`upstream`]s, [`client`]s, and the table of
//! [`result_row`]s.
//!
//! It knows no gateway and no policy: an address and certificates are all that it is given.

#![forbid(unsafe_code)]

pub mod client;
pub mod result_row;
pub mod upstream;
