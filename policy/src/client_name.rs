//! Names of clients, as certificates and the policy write them.
//!
//! Only one spelling of a name is accepted; everything else is refused, never repaired. A name that
//! two readers could understand in two ways, such as one with invisible characters, is not a name.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use thiserror::Error;

/// Maximum length of a name in characters: the upper bound of X.520 (`ub-common-name`, RFC 5280,
/// A.1).
pub(crate) const LONGEST_NAME: usize = 64;

/// A client's name: 1 to 64 characters, all visible, no blanks at either end.
///
/// Names compare byte for byte; there is no folding of case and no normalization.
///
/// # Examples
///
/// ```
/// use policy::{ClientName, ClientNameError};
///
/// assert_ne!(ClientName::new("billing")?, ClientName::new("Billing")?);
/// assert_eq!(ClientName::new("billing "), Err(ClientNameError::OuterBlank));
/// # Ok::<(), ClientNameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientName(Arc<str>);

/// Reason why a text is not a valid [`ClientName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ClientNameError {
    /// The text is empty.
    #[error("the name is empty")]
    Empty,
    /// The text has more than 64 characters.
    #[error("the name has more than {LONGEST_NAME} characters")]
    TooLong,
    /// The text begins or ends with white space.
    #[error("the name starts or ends with whitespace")]
    OuterBlank,
    /// The text has a control, bidi, zero-width or otherwise invisible character.
    #[error("the name has the invisible or control character U+{:04X}", u32::from(*.0))]
    Invisible(char),
}

impl ClientName {
    /// Creates a name from a text.
    ///
    /// # Errors
    ///
    /// The text is not a valid name.
    pub fn new(text: &str) -> Result<Self, ClientNameError> {
        if text.is_empty() {
            return Err(ClientNameError::Empty);
        }
        if text.chars().nth(LONGEST_NAME).is_some() {
            return Err(ClientNameError::TooLong);
        }
        if let Some(character) = text.chars().find(|&character| is_invisible(character)) {
            return Err(ClientNameError::Invisible(character));
        }
        if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
            return Err(ClientNameError::OuterBlank);
        }
        Ok(Self(Arc::from(text)))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name as a shared string, which is the key of the client's counters.
    pub fn shared(&self) -> &Arc<str> {
        &self.0
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Characters besides control characters that a reader cannot see, or that change how their
/// neighbours are read: the bidi controls of UAX #9, zero-width and filler characters, line and
/// paragraph separators, variation selectors, tags.
pub(crate) const INVISIBLE: [RangeInclusive<char>; 15] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{e0000}'..='\u{e0fff}',
];

fn is_invisible(character: char) -> bool {
    character.is_control()
        || !character.is_ascii() && INVISIBLE.iter().any(|range| range.contains(&character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_as_it_is_or_not_at_all() {
        assert_eq!(
            ClientName::new("Zoë O'Brien-7").unwrap().as_str(),
            "Zoë O'Brien-7"
        );
        assert_eq!(ClientName::new(""), Err(ClientNameError::Empty));
        assert_eq!(ClientName::new(" a"), Err(ClientNameError::OuterBlank));
        assert_eq!(ClientName::new("a\u{a0}"), Err(ClientNameError::OuterBlank));
        assert_eq!(
            ClientName::new("a\0b"),
            Err(ClientNameError::Invisible('\0'))
        );
        assert_eq!(
            ClientName::new("a\u{202e}b"),
            Err(ClientNameError::Invisible('\u{202e}'))
        );
        assert_eq!(
            ClientName::new("a\u{200d}b"),
            Err(ClientNameError::Invisible('\u{200d}'))
        );
        assert_eq!(
            ClientName::new(&"é".repeat(64)).unwrap().as_str().len(),
            128
        );
        assert_eq!(
            ClientName::new(&"é".repeat(65)),
            Err(ClientNameError::TooLong)
        );
    }

    #[test]
    fn names_that_look_alike_are_different_clients() {
        let latin = ClientName::new("paypal").unwrap();
        let cyrillic = ClientName::new("p\u{430}ypal").unwrap();
        let composed = ClientName::new("\u{e9}").unwrap();
        let decomposed = ClientName::new("e\u{301}").unwrap();
        assert_ne!(latin, cyrillic);
        assert_ne!(composed, decomposed);
        assert_ne!(latin, ClientName::new("Paypal").unwrap());
    }
}
