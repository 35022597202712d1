//! Parts of one line: boundaries of sections, and the text between them.

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// One part of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinePart<'a> {
    /// `-----BEGIN label-----`
    Begin(&'a str),
    /// `-----END label-----`
    End(&'a str),
    /// An incomplete boundary.
    Broken,
    /// Anything else, not blank.
    Text(&'a str),
}

/// Splits a line into its parts; a blank line has none.
pub(crate) fn pieces(line: &str) -> Vec<LinePart<'_>> {
    let mut pieces = Vec::new();
    let mut rest = line;
    while let Some((before, piece, after)) = boundary(rest) {
        pieces.extend(text(before));
        pieces.push(piece);
        rest = after;
    }
    pieces.extend(text(rest));
    pieces
}

/// Finds the first boundary of a text; returns it with the text before and after it.
fn boundary(text: &str) -> Option<(&str, LinePart<'_>, &str)> {
    let begin = text.find(BEGIN).map(|at| (at, BEGIN));
    let end = text.find(END).map(|at| (at, END));
    let (at, start) = begin.into_iter().chain(end).min()?;
    let (before, after) = (&text[..at], &text[at + start.len()..]);
    let Some((label, after)) = after.split_once(DASHES) else {
        return Some((before, LinePart::Broken, ""));
    };
    let piece = match start {
        _ if !is_label(label) => LinePart::Broken,
        BEGIN => LinePart::Begin(label),
        _ => LinePart::End(label),
    };
    Some((before, piece, after))
}

/// Makes the part of a text without a whole boundary; `None` if it is blank.
fn text(text: &str) -> Option<LinePart<'_>> {
    let has_dashes = text.contains("--") && (text.contains("BEGIN") || text.contains("END"));
    match text {
        _ if text.trim().is_empty() => None,
        _ if has_dashes || text.contains(DASHES) => Some(LinePart::Broken),
        _ => Some(LinePart::Text(text)),
    }
}

/// Returns true if a text may be a label (RFC 7468, 3).
fn is_label(label: &str) -> bool {
    let of_words = label.split([' ', '-']).all(|word| !word.is_empty());
    of_words
        && label
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic())
}
