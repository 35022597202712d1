//! A large YAML text read in pieces, on all processors at once.
//!
//! `groups:` and `clients:` of a large policy have one entry after the other, each at two blanks.
//! Such a text can be cut before any entry: what begins there cannot go on from before, since YAML
//! has whatever belongs to an entry further in (YAML 1.2.2, 6.1). Anything unusual, and any error,
//! is left to reading the whole text in one piece, whose errors are then told.

use std::ops::Range;
use std::thread;

use super::yaml::{self, Node, Value};

/// A text below this size is read faster in one piece.
const LARGE: usize = 1 << 20;
/// The sections whose entries may be cut apart.
const CUT: [&str; 2] = ["groups:", "clients:"];

/// A part of the text that is YAML by itself.
#[derive(Debug)]
struct Piece {
    bytes: Range<usize>,
    lines_before: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A key at the left margin and what belongs to it.
    Section,
    /// More entries of the section before.
    Entries,
}

/// Reads a large text in pieces; nothing if it is not large, not cut easily, or not right.
pub(super) fn read(text: &str) -> Option<Node<'_>> {
    // An anchor could be meant by an alias in another piece.
    if text.len() < LARGE || text.contains('&') {
        return None;
    }
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let pieces = cut(text, text.len() / (4 * threads))?;
    let share = pieces.len().div_ceil(threads);
    let trees = thread::scope(|scope| {
        let readers: Vec<_> = pieces
            .chunks(share)
            .map(|pieces| scope.spawn(move || trees(text, pieces)))
            .collect();
        let read = |reader: thread::ScopedJoinHandle<'_, _>| reader.join().ok().flatten();
        readers.into_iter().map(read).collect::<Option<Vec<_>>>()
    })?;
    join(trees.into_iter().flatten())
}

fn trees<'t>(text: &'t str, pieces: &[Piece]) -> Option<Vec<(Kind, Node<'t>)>> {
    let tree = |piece: &Piece| {
        let tree = yaml::tree(&text[piece.bytes.clone()], piece.lines_before);
        Some((piece.kind, tree.ok()??))
    };
    pieces.iter().map(tree).collect()
}

/// Puts the sections' entries together into one document.
fn join<'t>(trees: impl Iterator<Item = (Kind, Node<'t>)>) -> Option<Node<'t>> {
    let mut root: Option<Node<'t>> = None;
    for (kind, tree) in trees {
        let Value::Map(entries) = tree.value else {
            return None;
        };
        match (&mut root, kind) {
            (None, Kind::Section) => {
                root = Some(Node {
                    at: tree.at,
                    value: Value::Map(entries),
                });
            }
            (
                Some(Node {
                    value: Value::Map(sections),
                    ..
                }),
                Kind::Section,
            ) => {
                sections.extend(entries);
            }
            (
                Some(Node {
                    value: Value::Map(sections),
                    ..
                }),
                Kind::Entries,
            ) => {
                let Some((
                    _,
                    Node {
                        value: Value::Map(section),
                        ..
                    },
                )) = sections.last_mut()
                else {
                    return None;
                };
                section.extend(entries);
            }
            (Some(_) | None, _) => return None,
        }
    }
    root
}

/// Cuts a text into its sections, and long sections into pieces of about `size` bytes.
fn cut(text: &str, size: usize) -> Option<Vec<Piece>> {
    let mut pieces: Vec<Piece> = Vec::new();
    let (mut begin, mut lines_before) = (0, 0);
    let (mut kind, mut may_cut) = (None, false);
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let next = match line.as_bytes() {
            [b'a'..=b'z', ..] => Some(Kind::Section),
            [b' ' | b'#' | b'\n' | b'\r', rest @ ..] => {
                let entry = matches!(rest, [b' ', first, ..] if first.is_ascii_alphanumeric());
                (entry && may_cut && offset - begin >= size).then_some(Kind::Entries)
            }
            _ => return None,
        };
        if let Some(next) = next {
            if let Some(kind) = kind.replace(next) {
                pieces.push(Piece {
                    bytes: begin..offset,
                    lines_before,
                    kind,
                });
                (begin, lines_before) = (offset, number);
            }
            if next == Kind::Section {
                may_cut = CUT.contains(&line.trim_end());
            }
        }
        offset += line.len();
    }
    pieces.push(Piece {
        bytes: begin..offset,
        lines_before,
        kind: kind?,
    });
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::super::problem::Problems;
    use super::super::{Policy, generate};
    use super::*;

    fn places(node: &Node<'_>, found: &mut Vec<(u32, u32, String)>) {
        let At { line, column } = node.at;
        let text = match &node.value {
            Value::Nothing => "nothing".to_owned(),
            Value::Flag(text) | Value::Number(text) | Value::Text(text) => text.to_string(),
            Value::List(list) => {
                for node in list {
                    places(node, found);
                }
                "list".to_owned()
            }
            Value::Map(map) => {
                for (key, value) in map {
                    places(key, found);
                    places(value, found);
                }
                "map".to_owned()
            }
        };
        found.push((line, column, text));
    }

    use super::super::problem::At;

    #[test]
    fn a_text_in_pieces_is_the_text_in_one_to_the_last_place() {
        let text = generate(9000, 9000);
        assert!(cut(&text, text.len() / 16).unwrap().len() > 10);
        let (mut pieces, mut whole) = (Vec::new(), Vec::new());
        places(&read(&text).unwrap(), &mut pieces);
        places(&yaml::tree(&text, 0).unwrap().unwrap(), &mut whole);
        assert!(pieces == whole);
    }

    #[test]
    fn an_error_in_a_large_text_is_told_as_in_a_small_one() {
        let text = generate(9000, 9000);
        for (good, worse, says) in [
            ("  group-8000: {", "  group-8000: {{", "this is not YAML"),
            (
                "  client-10: {groups",
                "  client-10: {gruops",
                "unknown key `gruops`",
            ),
            ("  group-7:", "  group-6:", "is already there"),
            ("  client-7:", "\t client-7:", ""),
        ] {
            let worse = text.replace(good, worse);
            assert!(worse != text);
            let error = Policy::parse("policy.yaml", &worse)
                .unwrap_err()
                .to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_cut_is_read_in_one_piece() {
        let padding = "# padding\n".repeat(LARGE / 10 + 1);
        for text in ["- a\n", "---\na: b\n", "a: &x b\nc: *x\n", ""] {
            assert!(read(&format!("{text}{padding}")).is_none(), "{text}");
        }
        let mut problems = Problems::default();
        let text = format!("a: |\n  b: c\n  d: e\n{padding}");
        let whole = yaml::read(&text, &mut problems).unwrap();
        assert!(
            matches!(&whole.value, Value::Map(map) if matches!(map[0].1.value, Value::Text(_)))
        );
    }
}
