//! Reference of the policy's file: a table of the keys of each section, made from the tables of the
//! format.

use std::iter;

use thiserror::Error;

use super::client::DOCUMENT;
use super::kinds::{FormatKey, FormatSection, KeyDefault, ValueKind};

/// Begins the line before a table; the path of the section and [`MARK_END`] follow.
const BEGIN: &str = "<!-- keys of ";
/// Ends the line before a table.
const MARK_END: &str = " -->";
/// Line after a table.
const END: &str = "<!-- end of keys -->";
const HEAD: &str = "| key | type | default | meaning | example |\n|---|---|---|---|---|\n";

/// Reason why the tables of a page cannot be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// The page has a table for a section that does not exist, or two for one section.
    #[error("there is no section `{0}`, or it has a table already")]
    Unknown(String),
    /// The page ends before the end of a table.
    #[error("the table of `{0}` has no end; expected `{END}` behind it")]
    Unclosed(String),
    /// The page has no table for a section.
    #[error("section `{0}` has no table; expected `{BEGIN}{0}{MARK_END}`")]
    Missing(String),
}

/// Returns a page with current tables of the keys of all sections.
///
/// A table stands between a line `<!-- keys of SECTION -->`, such as `<!-- keys of gateway.tls
/// -->`, and a line `<!-- end of keys -->`. The rest of the page stays as it is.
///
/// # Errors
///
/// The page does not have exactly one table for each section.
pub fn reference(page: &str) -> Result<String, ReferenceError> {
    let mut tables = Vec::new();
    add_tables(&DOCUMENT, "", &mut tables);
    let mut new = String::with_capacity(page.len());
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        new += line;
        new.push('\n');
        let name = line.strip_prefix(BEGIN);
        let Some(name) = name.and_then(|rest| rest.strip_suffix(MARK_END)) else {
            continue;
        };
        let Some(found) = tables.iter().position(|(path, _)| path == name) else {
            return Err(ReferenceError::Unknown(name.to_owned()));
        };
        let (_, table) = tables.remove(found);
        if !lines.any(|line| line == END) {
            return Err(ReferenceError::Unclosed(name.to_owned()));
        }
        for part in ["\n", &table, "\n", END, "\n"] {
            new += part;
        }
    }
    match tables.into_iter().next() {
        None => Ok(new),
        Some((path, _)) => Err(ReferenceError::Missing(path)),
    }
}

/// Adds the tables of a section and of all sections in it, each with its path.
fn add_tables(section: &FormatSection, path: &str, tables: &mut Vec<(String, String)>) {
    let rows = section.keys.iter().map(|key| row(key, path));
    let table = HEAD.to_owned() + &rows.collect::<String>();
    let name = if path.is_empty() { "policy" } else { path };
    tables.push((name.to_owned(), table));
    for key in section.keys {
        for (path, section) in sections(&key.kind, &below(path, key.name)) {
            add_tables(section, &path, tables);
        }
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Returns the sections that a value may have in it, with their paths.
fn sections(kind: &ValueKind, path: &str) -> Vec<(String, &'static FormatSection)> {
    match kind {
        ValueKind::Scalar(_) | ValueKind::Words(_) => Vec::new(),
        ValueKind::Section(section) | ValueKind::Sections(section) => {
            vec![(path.to_owned(), section)]
        }
        ValueKind::Named(_, section) => vec![(below(path, "NAME"), section)],
        ValueKind::List(kind) => sections(kind, path),
        ValueKind::Either(kinds) => {
            let kinds = kinds.iter();
            kinds.flat_map(|kind| sections(kind, path)).collect()
        }
    }
}

fn row(key: &FormatKey, path: &str) -> String {
    let default = match key.default {
        KeyDefault::Required => "required".to_owned(),
        KeyDefault::Text(text) => format!("`{text}`"),
        KeyDefault::Absent(meaning) => meaning.to_owned(),
    };
    let words = words(&key.kind);
    let words = words.iter().map(|(word, doc)| {
        let mut rest = doc.chars();
        let first = rest.next().map(|first| first.to_ascii_lowercase());
        let doc: String = first.into_iter().chain(rest).collect();
        format!("`{word}`: {doc}")
    });
    let sections = sections(&key.kind, &below(path, key.name));
    let sections = sections.iter().map(|(path, _)| {
        let anchor = path.replace('.', "").to_lowercase();
        format!("See [`{path}`](#{anchor}).")
    });
    let meaning = iter::once(key.doc.to_owned()).chain(words).chain(sections);
    let meaning = meaning.collect::<Vec<_>>().join(" ");
    let (name, types, example) = (key.name, one_of(&types(&key.kind), "or"), key.example);
    format!("| `{name}` | {types} | {default} | {meaning} | `{example}` |\n")
}

fn words(kind: &ValueKind) -> Vec<(&'static str, &'static str)> {
    match kind {
        ValueKind::Words(words) => words.to_vec(),
        ValueKind::Either(kinds) => kinds.iter().flat_map(words).collect(),
        ValueKind::Scalar(_)
        | ValueKind::Section(_)
        | ValueKind::Named(..)
        | ValueKind::List(_)
        | ValueKind::Sections(_) => Vec::new(),
    }
}

/// Returns the types of a value, each in the singular.
fn types(kind: &ValueKind) -> Vec<String> {
    match kind {
        ValueKind::Scalar(scalar) => scalar.types.iter().map(ToString::to_string).collect(),
        ValueKind::Words(words) => words.iter().map(|(word, _)| format!("`{word}`")).collect(),
        ValueKind::Section(_) => vec!["section".to_owned()],
        ValueKind::Named(..) => vec!["sections by name".to_owned()],
        ValueKind::List(kind) => {
            let items: Vec<_> = types(kind).iter().map(|one| plural(one)).collect();
            vec![format!("list of {}", one_of(&items, "and"))]
        }
        ValueKind::Sections(_) => vec!["list of sections".to_owned()],
        ValueKind::Either(kinds) => kinds.iter().flat_map(types).collect(),
    }
}

fn plural(noun: &str) -> String {
    let ending = if noun.ends_with(['s', 'x']) {
        "es"
    } else {
        "s"
    };
    noun.to_owned() + ending
}

/// Joins words to `a, b or c`.
fn one_of(words: &[String], or: &str) -> String {
    match words {
        [] => String::new(),
        [word] => word.clone(),
        [first @ .., last] => format!("{} {or} {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/policy.md");

    #[test]
    fn the_tables_of_the_page_are_current() {
        let current = reference(PAGE).unwrap();
        assert!(
            current == PAGE,
            "run `cargo run -p policy --example reference <docs/policy.md >page.md`, then \
             `mv page.md docs/policy.md`"
        );
    }

    #[test]
    fn a_row_has_the_keys_type_default_meaning_and_example() {
        let mut tables = Vec::new();
        add_tables(&DOCUMENT, "", &mut tables);
        let row = |path: &str, key: &str| {
            let (_, table) = tables.iter().find(|(name, _)| name == path).unwrap();
            let start = format!("| `{key}` |");
            let row = table.lines().find(|line| line.starts_with(&start));
            row.unwrap().to_owned()
        };
        assert_eq!(
            row("gateway.ban", "within"),
            "| `within` | duration | `10s` | Time within which they fail. | `30s` |"
        );
        assert_eq!(
            row("groups.NAME", "when_all_down"),
            "| `when_all_down` | `refuse` or `try_all` | `refuse` | What happens without a \
             healthy upstream. `refuse`: clients are refused. `try_all`: all upstreams are tried \
             as if they were healthy, for probes that may be wrong. | `try_all` |"
        );
        let upstreams = row("groups.NAME", "upstreams");
        assert!(
            upstreams.contains("| list of addresses and sections | required |"),
            "{upstreams}"
        );
        assert!(
            upstreams.contains("See [`groups.NAME.upstreams`](#groupsnameupstreams)."),
            "{upstreams}"
        );
    }

    #[test]
    fn a_page_has_one_table_for_each_section() {
        let without = |mark: &str| reference(&PAGE.replacen(mark, "", 1));
        let missing = ReferenceError::Missing("gateway.ban".to_owned());
        assert_eq!(without("<!-- keys of gateway.ban -->\n"), Err(missing));
        let twice = format!("{PAGE}<!-- keys of tests -->\n{END}\n");
        let unknown = ReferenceError::Unknown("tests".to_owned());
        assert_eq!(reference(&twice), Err(unknown));
        let (before, _) = PAGE.rsplit_once(END).unwrap();
        let open = ReferenceError::Unclosed("tests".to_owned());
        assert_eq!(reference(before), Err(open));
    }
}
