//! Lines between sections that explain them: comments, and the text that openssl writes.

/// Longest run of base64 characters that is taken for a word, in characters.
const LONGEST_WORD: usize = 31;
/// Longest name of a field in openssl's text, in bytes.
const LONGEST_NAME: usize = 40;

/// Lines of openssl's text that are neither indented nor a field.
const ALONE: [&str; 2] = ["Bag Attributes", "No Revoked Certificates."];

/// Returns true if a line is a comment, which begins with `#`.
///
/// A line that also holds a whole section is not one: a line break is missing in it.
pub(crate) fn is_comment(line: &str) -> bool {
    let is_section = line.contains("-----BEGIN ") && line.contains("-----END ");
    line.trim_start().starts_with('#') && !is_section
}

/// Returns true if a text looks like openssl's description of a certificate, list or key: fields,
/// indented lines below them, rows of hexadecimal.
///
/// Base64 does not look like that, because its words are long.
pub(crate) fn is_of_openssl(text: &str) -> bool {
    let is_content =
        |word: &str| word.len() > LONGEST_WORD && word.chars().all(crate::base64::is_digit);
    let is_broken_comment = text.trim_start().starts_with('#');
    if is_broken_comment || text.split_whitespace().any(is_content) {
        return false;
    }
    text.starts_with([' ', '\t']) || is_field(text) || ALONE.contains(&text.trim_end())
}

/// Returns true if a line is `name: value`, `name:` or `name=value`.
fn is_field(text: &str) -> bool {
    let name = match text.split_once([':', '=']) {
        Some((name, value)) if text[name.len()..].starts_with(':') || !is_padding(value) => name,
        Some(_) | None => return false,
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || " -()/.".contains(c);
    !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(is_name)
}

/// Returns true if a text is what can follow the first `=` of base64: nothing, or another `=`.
fn is_padding(value: &str) -> bool {
    matches!(value.trim(), "" | "=")
}
