//! Reads the YAML of a policy's file.
//!
//! [`read`] returns a tree in which every value has its line and column, whatever type a reader
//! expects of it; [`layout`] one in which every value has its bytes. Depth, size and repetition by
//! aliases are bounded, tags are refused. What the values mean is not known here.
//!
//! ```
//! use policy_yaml::{YamlValue, read};
//!
//! let root = read("listen:\n  - 8443\n")?.expect("the text has a value");
//! let YamlValue::Map(entries) = &root.value else {
//!     panic!("a mapping");
//! };
//! let (key, value) = &entries[0];
//! assert_eq!(key.scalar(), Some("listen"));
//! assert_eq!((value.at.line, value.at.column), (2, 3));
//! # Ok::<(), policy_yaml::YamlRefusal>(())
//! ```

#![forbid(unsafe_code)]

mod chunks;
pub mod grant_layout;
mod layout;
mod position;
mod quote;
mod tree;

pub use layout::{CollectionStyle, LayoutNode, LayoutValue, layout};
pub use position::TextPosition;
pub use quote::{describe, quote};
pub use tree::{YamlNode, YamlRefusal, YamlValue, is_nothing, plain};

/// Reads the only document of a text; `None` if it has no value.
///
/// A large text is read on all processors, with the same result.
///
/// # Errors
///
/// The text is not YAML, has several documents, or exceeds a bound.
pub fn read(text: &str) -> Result<Option<YamlNode<'_>>, YamlRefusal> {
    match chunks::read(text) {
        Some(root) => Ok(Some(root)),
        None => tree::tree(text, 0),
    }
}
