//! JSON schema (draft 7) of the policy's file, made from the tables of the format.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::client::DOCUMENT;
use super::kinds::{FormatKey, FormatSection, KeyDefault, ScalarFormat, ValueKind};

/// Returns the JSON schema (draft 7) of the policy's file, in ASCII.
///
/// # Panics
///
/// Not in practice: a schema is made of plain JSON values, which can always be written.
pub fn schema() -> String {
    let mut definitions = Map::new();
    let mut root = section(&DOCUMENT, &mut definitions);
    root["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    root["title"] = "Portcullis policy".into();
    root["definitions"] = definitions.into();
    let text = serde_json::to_string_pretty(&root).expect("a schema is plain JSON");
    ascii(&text) + "\n"
}

/// Escapes DEL and all characters of a JSON text that are not ASCII, so that no invisible character
/// remains.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() && character != '\u{7f}' {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(text, "\\u{unit:04x}").expect("a text takes all");
            }
        }
    }
    text
}

fn section(section: &FormatSection, definitions: &mut Map<String, Value>) -> Value {
    let keys = section.keys.iter();
    let properties: Map<String, Value> = keys
        .map(|key| (key.name.to_owned(), property(key, definitions)))
        .collect();
    let needed = section
        .keys
        .iter()
        .filter(|key| key.default == KeyDefault::Required);
    let needed: Vec<&str> = needed.map(|key| key.name).collect();
    let mut schema = json!({
        "description": section.doc,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if section.may_be_empty() {
        schema["type"] = json!(["object", "null"]);
    } else {
        schema["required"] = needed.into();
    }
    if let Some(Value::Object(rule)) = section.rule.map(|rule| rule()) {
        schema.as_object_mut().expect("it is one").extend(rule);
    }
    schema
}

fn property(key: &FormatKey, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = value(&key.kind, definitions);
    if schema.get("$ref").is_some() {
        // Keywords next to a `$ref` are ignored.
        schema = json!({"allOf": [schema]});
    }
    schema["description"] = match key.default {
        KeyDefault::Required => key.doc.into(),
        KeyDefault::Text(text) => format!("{} Without it: `{text}`.", key.doc).into(),
        KeyDefault::Absent(meaning) => format!("{} Without it: {meaning}.", key.doc).into(),
    };
    if let KeyDefault::Text(text) = key.default {
        schema["default"] = policy_yaml::plain(text).to_json();
    }
    schema
}

fn value(kind: &ValueKind, definitions: &mut Map<String, Value>) -> Value {
    match kind {
        ValueKind::Scalar(scalar) => refer(scalar, definitions),
        ValueKind::Words(words) => json!({"oneOf": self::words(words)}),
        ValueKind::Section(section) => refer_section(section, definitions),
        ValueKind::Named(name, section) => json!({
            "type": ["object", "null"],
            "propertyNames": refer(name, definitions),
            "additionalProperties": refer_section(section, definitions),
        }),
        ValueKind::List(item) => json!({
            "type": "array",
            "items": value(item, definitions),
            "minItems": 1,
            "uniqueItems": true,
        }),
        ValueKind::Sections(section) => json!({
            "type": ["array", "null"],
            "items": refer_section(section, definitions),
        }),
        ValueKind::Either(choices) => {
            let choices = choices.iter().map(|choice| value(choice, definitions));
            json!({"anyOf": choices.collect::<Vec<_>>()})
        }
    }
}

fn words(words: &[(&str, &str)]) -> Vec<Value> {
    let mut schemas = Vec::new();
    for (word, doc) in words {
        schemas.push(json!({"const": word, "description": doc}));
        // Tools that know only YAML 1.1 read an unquoted `on` or `off` as a boolean.
        let flag = match *word {
            "on" => true,
            "off" => false,
            _ => continue,
        };
        schemas.push(json!({"const": flag, "description": doc}));
    }
    schemas
}

fn refer(scalar: &ScalarFormat, definitions: &mut Map<String, Value>) -> Value {
    if !definitions.contains_key(scalar.name) {
        let mut schema = (scalar.schema)();
        schema["description"] = scalar.doc.into();
        definitions.insert(scalar.name.to_owned(), schema);
    }
    reference(scalar.name)
}

fn refer_section(which: &FormatSection, definitions: &mut Map<String, Value>) -> Value {
    if !definitions.contains_key(which.name) {
        let schema = section(which, definitions);
        definitions.insert(which.name.to_owned(), schema);
    }
    reference(which.name)
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/definitions/{name}")})
}
