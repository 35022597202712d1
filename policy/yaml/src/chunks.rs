//! Reads a large YAML text in pieces, on all processors at once.
//!
//! `groups:` and `clients:` of a large policy have one entry after the other, each indented by two
//! blanks. Such a text can be cut before any entry: an entry cannot continue one before it, since
//! everything that belongs to an entry is indented further (YAML 1.2.2, 6.1). If the text has an
//! unusual form or any error, the whole text is read in one piece, and the errors of that are
//! reported.

use std::ops::Range;
use std::thread;

use crate::tree::{YamlNode, YamlValue, tree};

/// Smallest size in bytes of a text that is read in pieces: 1 MiB. A smaller one is read faster in
/// one piece.
const LARGE: usize = 1 << 20;
/// Sections that may be cut between two entries.
const CUT: [&str; 2] = ["groups:", "clients:"];

/// Part of the text that is valid YAML by itself.
#[derive(Debug)]
struct YamlChunk {
    bytes: Range<usize>,
    lines_before: usize,
    kind: ChunkKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkKind {
    /// A key at the left margin with its value.
    Section,
    /// Further entries of the preceding section.
    Entries,
}

/// Reads a large text in pieces. Returns `None` if it is not large, has an unusual form or an
/// error; it is then to be read in one piece.
pub(crate) fn read(text: &str) -> Option<YamlNode<'_>> {
    // An alias in another piece could refer to an anchor.
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

fn trees<'t>(text: &'t str, pieces: &[YamlChunk]) -> Option<Vec<(ChunkKind, YamlNode<'t>)>> {
    let tree = |piece: &YamlChunk| {
        let tree = tree(&text[piece.bytes.clone()], piece.lines_before);
        Some((piece.kind, tree.ok()??))
    };
    pieces.iter().map(tree).collect()
}

/// Joins the entries of all pieces into one document.
fn join<'t>(trees: impl Iterator<Item = (ChunkKind, YamlNode<'t>)>) -> Option<YamlNode<'t>> {
    let mut root: Option<YamlNode<'t>> = None;
    for (kind, tree) in trees {
        let YamlValue::Map(entries) = tree.value else {
            return None;
        };
        match (&mut root, kind) {
            (None, ChunkKind::Section) => {
                root = Some(YamlNode {
                    at: tree.at,
                    value: YamlValue::Map(entries),
                });
            }
            (
                Some(YamlNode {
                    value: YamlValue::Map(sections),
                    ..
                }),
                ChunkKind::Section,
            ) => {
                sections.extend(entries);
            }
            (
                Some(YamlNode {
                    value: YamlValue::Map(sections),
                    ..
                }),
                ChunkKind::Entries,
            ) => {
                let Some((
                    _,
                    YamlNode {
                        value: YamlValue::Map(section),
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

/// Cuts a text into its sections, and long sections into pieces of about `size` bytes. Returns
/// `None` if a line begins in an unusual way.
fn cut(text: &str, size: usize) -> Option<Vec<YamlChunk>> {
    let mut pieces: Vec<YamlChunk> = Vec::new();
    let (mut begin, mut lines_before) = (0, 0);
    let (mut kind, mut may_cut) = (None, false);
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let next = match line.as_bytes() {
            [b'a'..=b'z', ..] => Some(ChunkKind::Section),
            [b' ' | b'#' | b'\n' | b'\r', rest @ ..] => {
                let entry = matches!(rest, [b' ', first, ..] if first.is_ascii_alphanumeric());
                (entry && may_cut && offset - begin >= size).then_some(ChunkKind::Entries)
            }
            _ => return None,
        };
        if let Some(next) = next {
            if let Some(kind) = kind.replace(next) {
                pieces.push(YamlChunk {
                    bytes: begin..offset,
                    lines_before,
                    kind,
                });
                (begin, lines_before) = (offset, number);
            }
            if next == ChunkKind::Section {
                may_cut = CUT.contains(&line.trim_end());
            }
        }
        offset += line.len();
    }
    pieces.push(YamlChunk {
        bytes: begin..offset,
        lines_before,
        kind: kind?,
    });
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::position::TextPosition;

    /// Two sections with so many entries each.
    fn generate(entries: usize) -> String {
        let mut text = String::from("version: 1\n");
        for section in CUT {
            text += section;
            text.push('\n');
            for n in 0..entries {
                writeln!(text, "  entry-{n}: {{names: [name-{n}.example.test], list: [\"10.0.0.1:{n}\"], more: {{flag: off}}}}").unwrap();
            }
        }
        text
    }

    fn positions(node: &YamlNode<'_>, found: &mut Vec<(u32, u32, String)>) {
        let TextPosition { line, column } = node.at;
        let text = match &node.value {
            YamlValue::Nothing => "nothing".to_owned(),
            YamlValue::Flag(text) | YamlValue::Number(text) | YamlValue::Text(text) => {
                text.to_string()
            }
            YamlValue::List(list) => {
                for node in list {
                    positions(node, found);
                }
                "list".to_owned()
            }
            YamlValue::Map(map) => {
                for (key, value) in map {
                    positions(key, found);
                    positions(value, found);
                }
                "map".to_owned()
            }
        };
        found.push((line, column, text));
    }

    #[test]
    fn a_text_in_pieces_is_the_text_in_one_to_the_last_place() {
        let text = generate(9000);
        assert!(cut(&text, text.len() / 16).unwrap().len() > 10);
        let (mut pieces, mut whole) = (Vec::new(), Vec::new());
        positions(&read(&text).unwrap(), &mut pieces);
        positions(&tree(&text, 0).unwrap().unwrap(), &mut whole);
        assert!(pieces == whole);
    }

    #[test]
    fn what_cannot_be_cut_is_read_in_one_piece() {
        let padding = "# padding\n".repeat(LARGE / 10 + 1);
        for text in ["- a\n", "---\na: b\n", "a: &x b\nc: *x\n", ""] {
            assert!(read(&format!("{text}{padding}")).is_none(), "{text}");
        }
        let text = format!("a: |\n  b: c\n  d: e\n{padding}");
        let whole = crate::read(&text).unwrap().unwrap();
        assert!(
            matches!(&whole.value, YamlValue::Map(map) if matches!(map[0].1.value, YamlValue::Text(_)))
        );
    }
}
