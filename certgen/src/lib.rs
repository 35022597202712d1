//! Certificates of a private authority: issued, renewed and revoked.
//!
//! An [`Authority`] signs leaves for servers and clients, and a [`RevocationList`] of those that it
//! revokes. All of it can stay in memory. Functions that write to the disk, such as
//! [`Authority::save`] and [`IssuedCertificate::save`], write whole files or nothing.
//!
//! ```
//! use certgen::{Authority, AuthoritySpec};
//!
//! let authority = Authority::new(&AuthoritySpec::default())?;
//! let server = authority.server(&["ledger.example.test", "*.example.test", "127.0.0.1"])?;
//! let client = authority.client("billing")?;
//! assert_ne!(server.serial(), client.serial());
//! # Ok::<(), certgen::CertgenError>(())
//! ```
#![forbid(unsafe_code)]

mod authority;
mod certificate_facts;
mod check;
mod crl;
mod crl_facts;
mod directory;
mod error;
mod host_name;
mod index;
mod issued;
mod issuer_chain;
mod journal;
mod lock;
mod name;
mod paths;
mod profile;
mod renewal;
mod revocation;
mod sections;
mod serial;
mod signature;
mod spec;
mod store;
mod target;

pub use rcgen;

pub use crate::authority::Authority;
pub use crate::certificate_facts::CertificateFacts;
pub use crate::check::{CertificateCheck, CheckResult, verify};
pub use crate::crl::{CrlContents, RevocationList, RevokedCertificate};
pub use crate::crl_facts::{CrlFacts, PemFacts};
pub use crate::directory::AuthorityDirectory;
pub use crate::error::CertgenError;
pub use crate::host_name::HostName;
pub use crate::index::{CertificateIndex, CertificateState, IndexEntry};
pub use crate::issued::IssuedCertificate;
pub use crate::name::{LONGEST_NAME, NameError, check_common_name, check_file_stem};
pub use crate::paths::{CA_STEM, SERVER_STEM, certificate_path, crl_path, key_path};
pub use crate::serial::{CertificateSerial, RandomError};
pub use crate::spec::{AuthoritySpec, LeafSpec, LeafUsage};
pub use crate::store::{Overwrite, read_text};
pub use crate::target::{MatchCount, RevocationTarget};
