//! The part of YAML that is needed to change a line without rewriting its neighbours.
//!
//! This reads flow collections of one line, with the position of each part, and refuses all other
//! syntax. The caller checks a changed text with a complete parser.

use std::ops::Range;

/// Words that a YAML parser may read as a boolean or null, in any case.
const RESERVED: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// A part of a one-line collection, and its range in the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FlowNode {
    pub(crate) span: Range<usize>,
    pub(crate) shape: FlowValue,
}

/// Value of a part of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FlowValue {
    /// A word or a quoted text.
    Scalar(String),
    /// `[a, b]`
    Sequence(Vec<FlowNode>),
    /// `{a: b, c: d}`
    Mapping(Vec<(String, FlowNode)>),
}

/// Formats a name as YAML, quoted if it could be read as something else.
pub(crate) fn quoted(name: &str) -> String {
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let reserved = RESERVED.iter().any(|word| name.eq_ignore_ascii_case(word));
    if starts && name.chars().all(plain) && !reserved {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Reads the key at the start of a line, after blanks; returns it and the position after its colon.
pub(crate) fn key(line: &str) -> Option<(String, usize)> {
    let start = line.len() - line.trim_start_matches(' ').len();
    let mut reader = FlowReader {
        text: line,
        at: start,
        closers: "",
    };
    let key = reader.scalar()?;
    reader.blanks();
    reader.take(':')?;
    match line[reader.at..].chars().next() {
        None | Some(' ' | '\t' | '\r' | '\n') => Some((key, reader.at)),
        Some(_) => None,
    }
}

/// Reads the value that starts at a position, if it is all that the line has but a comment.
pub(crate) fn flow(line: &str, at: usize) -> Option<FlowNode> {
    let mut reader = FlowReader {
        text: line,
        at,
        closers: "",
    };
    let node = reader.node(DEEPEST)?;
    is_blank(&line[node.span.end..]).then_some(node)
}

/// Returns true if the rest of a line is only blanks and a comment.
pub(crate) fn is_blank(rest: &str) -> bool {
    let text = rest.trim_start();
    text.is_empty() || (text.starts_with('#') && (text.len() < rest.len() || rest == text))
}

/// Greatest depth of nested collections; deeper ones are refused.
const DEEPEST: u8 = 8;

struct FlowReader<'a> {
    text: &'a str,
    at: usize,
    closers: &'static str,
}

impl FlowReader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t']).len();
    }

    fn take(&mut self, expected: char) -> Option<()> {
        self.rest()
            .starts_with(expected)
            .then(|| self.at += expected.len_utf8())
    }

    fn node(&mut self, depth: u8) -> Option<FlowNode> {
        let depth = depth.checked_sub(1)?;
        let start = self.at;
        let shape = match self.rest().chars().next()? {
            '{' => FlowValue::Mapping(self.items('}', |reader| {
                let key = reader.scalar()?;
                reader.blanks();
                reader.take(':')?;
                reader.blanks();
                Some((key, reader.node(depth)?))
            })?),
            '[' => FlowValue::Sequence(self.items(']', |reader| reader.node(depth))?),
            _ => FlowValue::Scalar(self.scalar()?),
        };
        Some(FlowNode {
            span: start..self.at,
            shape,
        })
    }

    fn items<T>(
        &mut self,
        closer: char,
        mut item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let outer = std::mem::replace(&mut self.closers, ",[]{}");
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.blanks();
            if self.take(closer).is_some() {
                self.closers = outer;
                return Some(items);
            }
            items.push(item(self)?);
            self.blanks();
            if self.take(',').is_none() && !self.rest().starts_with(closer) {
                return None;
            }
        }
    }

    fn scalar(&mut self) -> Option<String> {
        match self.rest().chars().next()? {
            quote @ ('"' | '\'') => self.quoted(quote),
            '&' | '*' | '!' | '|' | '>' | '%' | '@' | '`' | '#' | '?' | '-' | '[' | ']' | '{'
            | '}' | ',' => None,
            _ => self.plain(),
        }
    }

    fn plain(&mut self) -> Option<String> {
        let rest = self.rest();
        let mut end = rest.len();
        for (at, character) in rest.char_indices() {
            let next = rest[at + character.len_utf8()..].chars().next();
            let colon = character == ':'
                && next.is_none_or(|next| next.is_whitespace() || self.closers.contains(next));
            let comment = character == '#' && rest[..at].ends_with([' ', '\t']);
            if colon || comment || self.closers.contains(character) {
                end = at;
                break;
            }
        }
        let text = rest[..end].trim_end().to_owned();
        self.at += text.len();
        (!text.is_empty()).then_some(text)
    }

    fn quoted(&mut self, quote: char) -> Option<String> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let character = self.rest().chars().next()?;
            self.at += character.len_utf8();
            let next = self.rest().chars().next();
            match character {
                '\'' if quote == '\'' && next == Some('\'') => {
                    self.at += 1;
                    text.push('\'');
                }
                '\\' if quote == '"' => {
                    text.push(next.filter(|next| matches!(next, '"' | '\\' | '/'))?);
                    self.at += 1;
                }
                ended if ended == quote => return Some(text),
                other => text.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_exactly_where_yaml_would_misread_it() {
        for plain in ["billing", "free-trial-client", "_a.b", "A1"] {
            assert_eq!(quoted(plain), plain);
        }
        for odd in [
            "yes", "Null", "1e3", "7", "-a", "a b", "a: b", "a#", "ü", "*", "a,b",
        ] {
            assert_eq!(quoted(odd), format!("\"{odd}\""));
        }
        assert_eq!(quoted(r#"a"b\c"#), r#""a\"b\\c""#);
    }

    #[test]
    fn a_key_is_read_whether_it_is_quoted_or_not() {
        assert_eq!(key("  billing: {}"), Some(("billing".to_owned(), 10)));
        assert_eq!(key("'it''s':"), Some(("it's".to_owned(), 8)));
        assert_eq!(key("\"a\\\"b\": 1"), Some(("a\"b".to_owned(), 7)));
        assert_eq!(key("a:b"), None);
        assert_eq!(key("# clients:"), None);
        assert_eq!(key("- clients: a"), None);
    }

    #[test]
    fn a_flow_collection_is_read_with_its_places() {
        let line = "a: {groups: [x, 'y z'], rate: 5/s} # note";
        let node = flow(line, 3).unwrap();
        assert_eq!(&line[node.span.clone()], "{groups: [x, 'y z'], rate: 5/s}");
        let FlowValue::Mapping(entries) = node.shape else {
            panic!("a mapping")
        };
        assert_eq!(&line[entries[0].1.span.clone()], "[x, 'y z']");
        assert_eq!(entries[1].1.shape, FlowValue::Scalar("5/s".to_owned()));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "{a: &x b}",
            "{a: *x}",
            "[a",
            "{a: b} c",
            "{a b",
            "[\"\\u0041\"]",
            "{a}",
        ] {
            assert_eq!(flow(line, 0), None, "{line}");
        }
        assert_eq!(
            flow(&"[".repeat(100_000), 0),
            None,
            "and never runs out of stack"
        );
    }
}
