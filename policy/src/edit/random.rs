//! Random policies in random layouts, and random grants.
//!
//! A model is written as a text twice, without and with the grants. What is granted in the first
//! text has to be the second one, to the byte, and the policy that the model means.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::grant;
use crate::change::PolicyChange;
use crate::client_name::ClientName;
use crate::policy::Policy;

/// Names of groups, each with its form in a text.
const GROUPS: [(&str, &str); 4] = [
    ("g1", "g1"),
    ("g-2", "g-2"),
    ("3", "\"3\""),
    ("q r", "\"q r\""),
];
/// Names of clients that a policy may have, each with its form in a text.
const KNOWN: [(&str, &str); 5] = [
    ("a", "a"),
    ("b c", "'b c'"),
    ("d\"e", "\"d\\\"e\""),
    ("f-1", "f-1"),
    ("7", "\"7\""),
];
/// Names of clients that no policy has, each with the form that it gets.
const NEW: [(&str, &str); 5] = [
    ("new", "new"),
    ("x y", "\"x y\""),
    ("Yes", "\"Yes\""),
    ("-dash", "\"-dash\""),
    ("ü: {}", "\"ü: {}\""),
];

#[derive(Debug, Clone)]
enum Section {
    /// No `clients:`, which is then added at the end.
    Absent,
    /// `clients:` with this in the place of clients.
    Empty(&'static str),
    /// One line or more for each client, with this indent.
    Block(usize),
    /// All in braces, with this between two clients.
    Flow(&'static str),
}

#[derive(Debug, Clone, Copy)]
enum ListStyle {
    /// `a: {groups: [g1, g-2]}`
    Inline,
    /// The same over several lines.
    InlineLines,
    /// A mapping in lines, with the list in brackets.
    Brackets,
    /// A mapping and a list in lines.
    Dashes,
    /// The same, with the dashes below the key and more blanks behind them.
    WideDashes,
}

#[derive(Debug, Clone)]
struct Client {
    name: usize,
    groups: Vec<usize>,
    style: ListStyle,
    /// A setting before the groups, and one behind them.
    settings: (bool, bool),
    comment: &'static str,
}

#[derive(Debug, Clone)]
struct Model {
    section: Section,
    clients: Vec<Client>,
    /// What follows the last client.
    tail: &'static str,
    /// There is more below the clients.
    is_last: bool,
    newline: &'static str,
    ends_in_newline: bool,
}

/// Groups by the names of clients, both as indices; clients that are new come behind the others.
type Grants = Vec<(usize, Vec<usize>)>;

fn client_name(index: usize) -> (&'static str, &'static str) {
    KNOWN.iter().chain(&NEW).copied().nth(index).unwrap()
}

fn list(groups: &[usize]) -> String {
    let groups: Vec<&str> = groups.iter().map(|&group| GROUPS[group].1).collect();
    groups.join(", ")
}

/// The lines of these entries.
fn lines(entries: &[String], indent: &str, newline: &str) -> String {
    let lines = entries.iter().flat_map(|entry| [indent, entry, newline]);
    lines.collect()
}

/// What is before the clients.
fn head(newline: &str) -> String {
    let mut text = [
        "version: 1 # one",
        "gateway: {listen: ['[::]:8443'],",
        "  tls: {certificate: s.crt, key: s.key, client_ca: ca.crt}}",
        "groups:",
        "",
    ]
    .join(newline);
    for (n, (_, group)) in GROUPS.iter().enumerate() {
        let settings = format!("{{sni: [n{n}.test], upstreams: ['10.0.0.1:1']}}");
        write!(text, "  {group}: {settings}   # clients: {{a: 1}}{newline}").unwrap();
    }
    text
}

impl Client {
    fn write(&self, added: &[usize], indent: &str, newline: &str, text: &mut String) {
        let (before, after) = self.settings;
        let name = client_name(self.name).1;
        let all = list(&[&self.groups[..], added].concat());
        let first = if before { "max_connections: 3" } else { "" };
        let last = if after { "rate: 5/s" } else { "" };
        let comment = self.comment;
        match self.style {
            ListStyle::Inline | ListStyle::InlineLines => {
                let gap = if matches!(self.style, ListStyle::InlineLines) {
                    format!("{newline}{indent}   ")
                } else {
                    String::new()
                };
                let groups = format!("groups:{gap} [{gap}{all}{gap}]");
                let parts = [first, &groups, last];
                let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                write!(
                    text,
                    "{indent}{name}: {{{}}}{comment}{newline}",
                    parts.join(", ")
                )
                .unwrap();
            }
            ListStyle::Brackets | ListStyle::Dashes | ListStyle::WideDashes => {
                write!(text, "{indent}{name}:{comment}{newline}").unwrap();
                let mut line = |line: &str| {
                    if !line.is_empty() {
                        write!(text, "{indent}  {line}{newline}").unwrap();
                    }
                };
                line(first);
                let dash = if matches!(self.style, ListStyle::Dashes) {
                    "  - "
                } else {
                    "-   "
                };
                if let ListStyle::Brackets = self.style {
                    line(&format!("groups: [ {all} ]{comment}"));
                } else {
                    line(&format!("groups:{comment}"));
                    for group in &self.groups {
                        line(&format!("{dash}{}{comment}", GROUPS[*group].1));
                    }
                    for group in added {
                        line(&format!("{dash}{}", GROUPS[*group].1));
                    }
                }
                line(last);
            }
        }
    }
}

impl Model {
    /// The text with these grants. A client's groups that it has already are not among them.
    fn text(&self, grants: &Grants) -> String {
        let newline = self.newline;
        let is_new = |name: usize| self.clients.iter().all(|client| client.name != name);
        let new = grants.iter().filter(|(name, _)| is_new(*name));
        let new: Vec<String> = new
            .map(|(name, groups)| {
                let name = client_name(*name).1.replace('\'', "\"");
                format!("{name}: {{groups: [{}]}}", list(groups))
            })
            .collect();
        let mut text = head(newline);
        self.write_section(grants, &new, &mut text);
        if !self.is_last {
            write!(text, "# more{newline}tests: []   # none{newline}").unwrap();
        }
        if !self.ends_in_newline {
            text.truncate(text.trim_end_matches(['\r', '\n']).len());
        }
        if matches!(self.section, Section::Absent) && !new.is_empty() {
            let gap = if self.ends_in_newline { "" } else { newline };
            let lines = lines(&new, "  ", newline);
            write!(text, "{gap}clients:{newline}{lines}").unwrap();
        }
        text
    }

    fn write_section(&self, grants: &Grants, new: &[String], text: &mut String) {
        let (newline, tail) = (self.newline, self.tail);
        let added = |client: &Client| -> &[usize] {
            let found = grants.iter().find(|(name, _)| *name == client.name);
            found.map_or(&[], |(_, groups)| groups)
        };
        match &self.section {
            Section::Absent => {}
            Section::Empty(said) => {
                let rest = said.trim_start_matches([' ', '{', '}', '~']);
                let rest = rest.strip_prefix("null").unwrap_or(rest);
                let gap = if rest.is_empty() { "" } else { " " };
                let said = if new.is_empty() {
                    (*said).to_owned()
                } else {
                    format!("{gap}{rest}")
                };
                let lines = lines(new, "  ", newline);
                write!(text, "clients:{said}{newline}{lines}{tail}").unwrap();
            }
            Section::Block(indent) => {
                let indent = " ".repeat(*indent);
                write!(text, "clients: # who{newline}").unwrap();
                for client in &self.clients {
                    client.write(added(client), &indent, newline, text);
                }
                write!(text, "{}{tail}", lines(new, &indent, newline)).unwrap();
            }
            Section::Flow(between) => {
                let known = self.clients.iter().map(|client| {
                    let all = list(&[&client.groups[..], added(client)].concat());
                    format!("{}: {{groups: [{all}]}}", client_name(client.name).1)
                });
                let known = known.collect::<Vec<_>>().join(between);
                let all = [&[known][..], new].concat().join(", ");
                write!(text, "clients: {{{all}}} # who{newline}{tail}").unwrap();
            }
        }
    }

    /// The groups of each client.
    fn meaning(&self, grants: &Grants) -> BTreeMap<&'static str, BTreeSet<&'static str>> {
        let mut meaning: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let known = self
            .clients
            .iter()
            .map(|client| (client.name, &client.groups));
        for (name, groups) in known.chain(grants.iter().map(|(name, groups)| (*name, groups))) {
            let groups = groups.iter().map(|&group| GROUPS[group].0);
            meaning
                .entry(client_name(name).0)
                .or_default()
                .extend(groups);
        }
        meaning
    }
}

fn client(name: usize) -> impl Strategy<Value = Client> {
    const STYLES: [ListStyle; 5] = [
        ListStyle::Inline,
        ListStyle::InlineLines,
        ListStyle::Brackets,
        ListStyle::Dashes,
        ListStyle::WideDashes,
    ];
    (
        subsequence(vec![0, 1, 2, 3], 1..=3).prop_shuffle(),
        select(&STYLES[..]),
        any::<(bool, bool)>(),
        select(&["", "   # [ clients: {"][..]),
    )
        .prop_map(move |(groups, style, settings, comment)| Client {
            name,
            groups,
            style,
            settings,
            comment,
        })
}

fn model() -> impl Strategy<Value = Model> {
    let names = subsequence((0..KNOWN.len()).collect::<Vec<_>>(), 1..=4).prop_shuffle();
    let clients = names.prop_flat_map(|names| names.into_iter().map(client).collect::<Vec<_>>());
    let section = prop_oneof![
        1 => Just(Section::Absent),
        2 => select(&["", " {}", " {  }", " ~", " null", " {} # who", " # who"][..]).prop_map(Section::Empty),
        4 => (1usize..6).prop_map(Section::Block),
        2 => select(&[", ", ",\n  ", " ,   # }\n    "][..]).prop_map(Section::Flow),
    ];
    (
        section,
        clients,
        select(&["", "\n\n", "  # nobody else\n", "# clients: end\n"][..]),
        any::<bool>(),
        select(&["\n", "\r\n"][..]),
        any::<bool>(),
    )
        .prop_map(
            |(section, clients, tail, is_last, newline, ends_in_newline)| {
                let has_clients = matches!(section, Section::Block(_) | Section::Flow(_));
                Model {
                    clients: if has_clients { clients } else { Vec::new() },
                    // Lines of another kind in a file make its kind of lines a matter of taste.
                    tail: if newline == "\n" && !is_last {
                        tail
                    } else {
                        ""
                    },
                    section,
                    is_last,
                    newline,
                    ends_in_newline,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_grant_changes_what_it_names_and_nothing_else(
        model in model(),
        names in vec(0..KNOWN.len() + NEW.len(), 1..4),
        groups in subsequence(vec![0, 1, 2, 3], 1..=3).prop_shuffle(),
    ) {
        let mut grants: Grants = Vec::new();
        for name in &names {
            let known = model.clients.iter().find(|client| client.name == *name);
            let is_missing = |group: &&usize| known.is_none_or(|known| !known.groups.contains(group));
            let missing: Vec<usize> = groups.iter().filter(is_missing).copied().collect();
            if !missing.is_empty() && grants.iter().all(|(granted, _)| granted != name) {
                grants.push((*name, missing));
            }
        }
        let (before, after) = (model.text(&Vec::new()), model.text(&grants));
        let clients: Vec<ClientName> = names.iter().map(|name| ClientName::new(client_name(*name).0).unwrap()).collect();
        let granted: Vec<&str> = groups.iter().map(|&group| GROUPS[group].0).collect();

        let edit = grant("p.yaml", &before, &clients, &granted).unwrap();

        prop_assert_eq!(edit.text(), &after);
        prop_assert_eq!(edit.difference().is_empty(), grants.is_empty());
        if matches!(model.section, Section::Absent) && grants.is_empty() {
            return Ok(());
        }
        let new = Policy::parse("p.yaml", &after).unwrap();
        let meant: BTreeMap<&str, BTreeSet<&str>> = new
            .clients()
            .map(|client| (client.name.as_str(), client.groups.iter().map(|group| &**group).collect()))
            .collect();
        prop_assert_eq!(meant, model.meaning(&grants));
        if let Ok(old) = Policy::parse("p.yaml", &before) {
            let changes = old.changes(&new);
            let mut changed: Vec<&str> = Vec::new();
            for change in &changes {
                let PolicyChange::PutClient(client) = change else {
                    panic!("{change}");
                };
                if let Some(old) = old.client(client.name.as_str()) {
                    prop_assert_eq!(old.max_connections, client.max_connections);
                    prop_assert_eq!(old.rate, client.rate);
                }
                changed.push(client.name.as_str());
            }
            let mut named: Vec<&str> = grants.iter().map(|(name, _)| client_name(*name).0).collect();
            named.sort_unstable();
            prop_assert_eq!(changed, named);
        }
    }
}
