//! The schema and the parser say the same of a policy, key by key and value by value.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::kinds::{FormatSection, KeyDefault, ValueKind};
use super::schema::schema;
use super::*;
use crate::Policy;
use policy_yaml::{YamlNode, YamlValue};

mod validator;
mod values;

use validator::Validator;
use values::{NAMES, VALUES};

/// Policies in which every key is written, each in one of them. Small ones are varied faster.
const EVERY_KEY: [&str; 3] = [
    include_str!("tests/every_key/gateway.yaml"),
    include_str!("tests/every_key/group.yaml"),
    include_str!("tests/every_key/client.yaml"),
];

/// What the parser says, and of which values.
type Exception = (&'static str, fn(&str) -> bool);

/// Why the parser may refuse what the schema accepts: a JSON schema cannot say it.
const BEYOND_A_SCHEMA: &[Exception] = &[
    // References between sections, and rules about several of them.
    ("there is no group", any),
    ("leads to group", any),
    ("which no group may exceed", any),
    ("this test fails", any),
    ("is not a DNS name, because", any),
    // Two spellings of one value: `x` and `X`, an address and a mapping with it.
    ("is in the list twice", any),
    // How a number is spelt: a schema sees its value only.
    ("in plain digits", is_spelt_oddly),
    // Arithmetic.
    ("has bits that are set after", |value| value.contains('/')),
    ("is not a port", |value| value == "9-8"),
    ("more than 255 bytes", |value| !value.is_ascii()),
    // What would take a pattern that nobody can read.
    ("is not an address", |value| value.contains('[')),
    ("is not a prefix", |value| value.contains(':')),
    (
        "the name has the invisible or control character U+E0001",
        any,
    ),
];

fn any(_: &str) -> bool {
    true
}

fn is_spelt_oddly(value: &str) -> bool {
    !value.bytes().all(|byte| byte.is_ascii_digit()) || (value.starts_with('0') && value != "0")
}

/// `node` in flow style, with its `n`th value replaced, counted from the outermost.
struct Variant<'r> {
    n: usize,
    replacement: &'r str,
    seen: usize,
    text: String,
}

impl<'r> Variant<'r> {
    fn of(root: &YamlNode<'_>, n: usize, replacement: &'r str) -> Self {
        let (seen, text) = (0, String::new());
        let mut variant = Self {
            n,
            replacement,
            seen,
            text,
        };
        variant.write(root);
        variant
    }

    fn write(&mut self, node: &YamlNode<'_>) {
        self.seen += 1;
        if self.seen == self.n + 1 {
            self.text += self.replacement;
            self.seen += count(node) - 1;
            return;
        }
        match &node.value {
            YamlValue::Nothing => self.text += "null",
            YamlValue::Flag(text) | YamlValue::Number(text) => self.text += text,
            YamlValue::Text(text) => self.text += &quoted(text),
            YamlValue::List(items) => {
                self.text.push('[');
                for item in items {
                    self.write(item);
                    self.text += ", ";
                }
                self.text.push(']');
            }
            YamlValue::Map(entries) => {
                self.text.push('{');
                for (key, value) in entries {
                    self.write(key);
                    self.text += ": ";
                    self.write(value);
                    self.text += ", ";
                }
                self.text.push('}');
            }
        }
    }
}

/// Whether each value is a key, in the order in which [`Variant`] counts them.
fn positions(node: &YamlNode<'_>, is_key: bool, found: &mut Vec<bool>) {
    found.push(is_key);
    match &node.value {
        YamlValue::Nothing | YamlValue::Flag(_) | YamlValue::Number(_) | YamlValue::Text(_) => {}
        YamlValue::List(items) => items.iter().for_each(|item| positions(item, false, found)),
        YamlValue::Map(entries) => {
            for (key, value) in entries {
                positions(key, true, found);
                positions(value, false, found);
            }
        }
    }
}

fn count(node: &YamlNode<'_>) -> usize {
    let mut found = Vec::new();
    positions(node, false, &mut found);
    found.len()
}

fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

fn root(text: &str) -> YamlNode<'_> {
    policy_yaml::read(text).unwrap().unwrap()
}

/// What the parser says of a text, nothing if it is a policy.
fn refusals(text: &str) -> Vec<String> {
    let Err(error) = Policy::parse("p.yaml", text) else {
        return Vec::new();
    };
    error
        .problems()
        .iter()
        .map(|problem| problem.message.clone())
        .collect()
}

/// What both say of policies, compared.
struct Comparison {
    validator: Validator,
    /// Which of the exceptions there is a policy for.
    taken: BTreeSet<usize>,
    disagreements: Vec<String>,
}

impl Comparison {
    /// Compares what both say of `text`, in which `value` was changed.
    fn compare(&mut self, text: &str, value: &str) {
        let Ok(Some(root)) = policy_yaml::read(text) else {
            return;
        };
        let accepted = self.validator.accepts(&root.value.to_json());
        let refusals = refusals(text);
        // JSON knows no key that is there twice.
        let is_twice = |told: &String| told.contains("it is first in line");
        if accepted == refusals.is_empty() || refusals.iter().any(is_twice) {
            return;
        }
        let exception = |told: &String| {
            let is_it = |(says, of): &Exception| told.contains(says) && of(value);
            BEYOND_A_SCHEMA.iter().position(is_it)
        };
        let taken: Option<Vec<usize>> = refusals.iter().map(exception).collect();
        match taken {
            Some(taken) if accepted => self.taken.extend(taken),
            Some(_) | None => {
                let verdict = if accepted { "accepts" } else { "refuses" };
                let line = format!("the schema {verdict} {value}, the parser says {refusals:?}");
                self.disagreements.push(line);
            }
        }
    }
}

#[test]
fn the_schema_and_the_parser_agree_on_each_value_at_each_place_and_on_each_line_left_out() {
    let mut comparison = Comparison {
        validator: Validator::new(&schema()),
        taken: BTreeSet::new(),
        disagreements: Vec::new(),
    };
    let long = values::long();
    let all: Vec<&str> = VALUES
        .iter()
        .chain(NAMES)
        .copied()
        .chain(long.iter().map(String::as_str))
        .collect();
    for base in EVERY_KEY {
        assert_eq!(refusals(base), [""; 0], "the policy that is varied");
        let root = root(base);
        let mut is_key = Vec::new();
        positions(&root, false, &mut is_key);
        for (n, is_key) in is_key.into_iter().enumerate().skip(1) {
            for value in if is_key { NAMES } else { &all } {
                comparison.compare(&Variant::of(&root, n, value).text, value);
            }
        }
        let lines: Vec<&str> = base.lines().collect();
        for without in 0..lines.len() {
            let mut kept = lines.clone();
            let line = kept.remove(without);
            comparison.compare(&kept.join("\n"), line);
        }
    }
    let Comparison {
        taken,
        disagreements,
        ..
    } = comparison;
    let (count, told) = (disagreements.len(), disagreements.join("\n"));
    assert!(count == 0, "{count} disagreements:\n{told}");
    for (n, (told, _)) in BEYOND_A_SCHEMA.iter().enumerate() {
        assert!(taken.contains(&n), "nothing is refused because {told:?}");
    }
}

/// Calls `visit` for each section of the format, each once.
fn each_section(visit: &mut impl FnMut(&FormatSection)) {
    fn each_in(kind: &ValueKind, visit: &mut dyn FnMut(&FormatSection)) {
        match kind {
            ValueKind::Scalar(_) | ValueKind::Words(_) => {}
            ValueKind::Section(section)
            | ValueKind::Named(_, section)
            | ValueKind::Sections(section) => {
                visit(section);
                section
                    .keys
                    .iter()
                    .for_each(|key| each_in(&key.kind, visit));
            }
            ValueKind::List(kind) => each_in(kind, visit),
            ValueKind::Either(kinds) => kinds.iter().for_each(|kind| each_in(kind, visit)),
        }
    }
    each_in(&ValueKind::Section(&DOCUMENT), visit);
}

#[test]
fn the_policy_that_is_varied_has_every_key() {
    let mut missing = Vec::new();
    each_section(&mut |section| {
        for key in section.keys {
            let is_it = |line: &str| {
                line.trim_start_matches([' ', '-'])
                    .starts_with(&format!("{}:", key.name))
            };
            if !EVERY_KEY.iter().any(|text| text.lines().any(is_it)) {
                missing.push(format!("{}.{}", section.name, key.name));
            }
        }
    });
    assert_eq!(missing, [""; 0]);
}

#[test]
fn each_default_is_a_value_of_its_key_and_stands_in_the_schema() {
    let text = schema();
    let validator = Validator::new(&text);
    let schema: Json = serde_json::from_str(&text).unwrap();
    let mut defaults = 0;
    each_section(&mut |section| {
        for key in section.keys {
            let position = match section.name {
                "Document" => &schema["properties"][key.name],
                name => &schema["definitions"][name]["properties"][key.name],
            };
            let described = position["description"].as_str().unwrap();
            assert!(described.starts_with(key.doc), "{described}");
            let example = root(key.example).value.to_json();
            let is_value = validator.accepts_at(position, &example);
            assert!(is_value, "{}.{}: {}", section.name, key.name, key.example);
            let KeyDefault::Text(default) = key.default else {
                assert!(position.get("default").is_none());
                continue;
            };
            defaults += 1;
            assert!(described.ends_with(&format!("Without it: `{default}`.")));
            assert_eq!(position["default"], policy_yaml::plain(default).to_json());
            assert!(
                validator.accepts_at(position, &position["default"]),
                "{}",
                key.name
            );
        }
    });
    assert_eq!(defaults, 37);
}

/// The defaults of a section, written out.
fn defaults(section: &FormatSection) -> String {
    let written = section.keys.iter().filter_map(|key| match key.default {
        KeyDefault::Text(default) => Some(format!("{}: {default}, ", key.name)),
        KeyDefault::Required | KeyDefault::Absent(_) => None,
    });
    written.collect()
}

#[test]
fn what_is_left_out_is_read_as_its_default_written_out() {
    let left_out = "
version: 1
gateway: {listen: ['[::]:1'], tls: {certificate: c, key: k, client_ca: a}, steer: {}, ban: {}}
groups: {g: {upstreams: ['10.0.0.1:1', {address: '10.0.0.2:1'}]}}
clients: {c: {groups: [g]}}
";
    let written = [
        ("gateway: {", &GATEWAY),
        ("tls: {", &TLS),
        ("steer: {", &STEER),
        ("ban: {", &BAN),
        ("g: {", &GROUP),
        ("'10.0.0.1:1', {", &UPSTREAM),
        ("c: {", &CLIENT),
    ];
    let written = written
        .iter()
        .fold(left_out.to_owned(), |text, (section, table)| {
            assert!(text.contains(section));
            text.replace(section, &format!("{section}{}", defaults(table)))
        });
    let more = [
        ("ban: {", "limits: {", &LIMITS),
        ("ban: {", "timeouts: {", &TIMEOUTS),
        ("upstreams: [", "health: {", &HEALTH),
    ];
    let written = more.iter().fold(written, |text, (before, section, table)| {
        assert!(text.contains(before));
        text.replace(before, &format!("{section}{}}}, {before}", defaults(table)))
    });
    let parse = |text: &str| {
        Policy::parse("p.yaml", text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    };
    assert!(parse(left_out) == parse(&written), "{written}");
}

#[test]
fn the_committed_schema_is_current() {
    let committed = include_str!("../../schema/policy.schema.json");
    assert!(
        committed == schema(),
        "run `portcullis schema > policy/schema/policy.schema.json`"
    );
}
