//! Rules for the names of certificates and their files.

use thiserror::Error;

use crate::paths::{CA_STEM, SERVER_STEM};

/// Longest common name, in characters (X.520, `ub-common-name`).
pub const LONGEST_NAME: usize = 64;

/// Rules that a name can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// The name is empty.
    #[error("it is empty")]
    Empty,
    /// More than [`LONGEST_NAME`] characters.
    #[error("it has more than {LONGEST_NAME} characters")]
    TooLong,
    /// A blank at the start or the end.
    #[error("it starts or ends with whitespace")]
    OuterBlank,
    /// A control, bidi, zero-width or otherwise invisible character.
    #[error("it contains the invisible or control character U+{:04X}", u32::from(*.0))]
    Invisible(char),
    /// A character that separates directories.
    #[error("it contains {0:?}, which file names may not contain")]
    Separator(char),
    /// A dot at the start: the file would be hidden, or a directory.
    #[error("it starts with a dot, which file names may not")]
    LeadingDot,
    /// The authority's or the server's own files.
    #[error("the files of the authority or the server have that name")]
    Reserved,
    /// Neither a DNS name, nor `*.` and a DNS name, nor an IP address.
    #[error("it is neither a DNS name nor an IP address")]
    NotAHost,
}

/// Checks that a common name is one that the gateway accepts as an identity.
///
/// # Errors
///
/// The first rule that the name breaks.
pub fn check_common_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.chars().nth(LONGEST_NAME).is_some() {
        return Err(NameError::TooLong);
    }
    if let Some(character) = name.chars().find(|&character| is_invisible(character)) {
        return Err(NameError::Invisible(character));
    }
    if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        return Err(NameError::OuterBlank);
    }
    Ok(())
}

/// Checks that files may be named after a client.
///
/// # Errors
///
/// The first rule that the name breaks: those of [`check_common_name`], then those of a file.
pub fn check_file_stem(name: &str) -> Result<(), NameError> {
    check_common_name(name)?;
    if let Some(separator) = name
        .chars()
        .find(|character| matches!(character, '/' | '\\'))
    {
        return Err(NameError::Separator(separator));
    }
    if name.starts_with('.') {
        return Err(NameError::LeadingDot);
    }
    if [CA_STEM, SERVER_STEM]
        .iter()
        .any(|reserved| name.eq_ignore_ascii_case(reserved))
    {
        return Err(NameError::Reserved);
    }
    Ok(())
}

/// Returns true for a character that a reader cannot see, or that changes how others are shown.
///
/// The gateway refuses the same characters, so no certificate is issued that it would not accept.
pub(crate) fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_gateway_would_refuse_is_refused_here() {
        assert_eq!(check_common_name(""), Err(NameError::Empty));
        assert_eq!(check_common_name(" billing"), Err(NameError::OuterBlank));
        assert_eq!(
            check_common_name("bil\0ling"),
            Err(NameError::Invisible('\0'))
        );
        assert_eq!(
            check_common_name("a\u{202e}b"),
            Err(NameError::Invisible('\u{202e}'))
        );
        assert_eq!(
            check_common_name("a\u{200b}"),
            Err(NameError::Invisible('\u{200b}'))
        );
        assert_eq!(check_common_name(&"x".repeat(65)), Err(NameError::TooLong));
        assert_eq!(
            check_common_name(&"ü".repeat(64)),
            Ok(()),
            "characters count, not octets"
        );
    }

    #[test]
    fn a_name_that_would_leave_its_directory_is_refused() {
        assert_eq!(check_file_stem("../ca"), Err(NameError::Separator('/')));
        assert_eq!(check_file_stem("a\\b"), Err(NameError::Separator('\\')));
        assert_eq!(check_file_stem(".."), Err(NameError::LeadingDot));
        assert_eq!(check_file_stem(".hidden"), Err(NameError::LeadingDot));
    }

    #[test]
    fn a_client_never_takes_the_files_of_the_authority_or_the_server() {
        assert_eq!(check_file_stem("ca"), Err(NameError::Reserved));
        assert_eq!(check_file_stem("Server"), Err(NameError::Reserved));
        assert_eq!(check_file_stem("server-2"), Ok(()));
    }
}
