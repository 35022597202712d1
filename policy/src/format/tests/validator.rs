//! As much of JSON schema, draft 7, as the policy's schema uses. A keyword that is not known here
//! is a failure, so that no test passes for want of it.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Value};

pub(super) struct Validator {
    schema: Value,
    patterns: RefCell<HashMap<String, Regex>>,
}

impl Validator {
    pub(super) fn new(schema: &str) -> Self {
        Self {
            schema: serde_json::from_str(schema).unwrap(),
            patterns: RefCell::default(),
        }
    }

    pub(super) fn accepts(&self, value: &Value) -> bool {
        self.accepts_at(&self.schema, value)
    }

    /// Whether a part of the schema accepts a value.
    pub(super) fn accepts_at(&self, schema: &Value, value: &Value) -> bool {
        let schema = schema.as_object().unwrap();
        let mut rules = schema.iter();
        rules.all(|(keyword, rule)| self.holds(schema, keyword, rule, value))
    }

    fn holds(
        &self,
        schema: &Map<String, Value>,
        keyword: &str,
        rule: &Value,
        value: &Value,
    ) -> bool {
        let each = || rule.as_array().unwrap().iter();
        let accepted = |schema: &Value| self.accepts_at(schema, value);
        let is_below = |most: u64, length: usize| length as u64 <= most;
        match keyword {
            "$schema" | "title" | "description" | "default" | "definitions" | "then" => true,
            "$ref" => {
                let name = rule
                    .as_str()
                    .unwrap()
                    .strip_prefix("#/definitions/")
                    .unwrap();
                accepted(&self.schema["definitions"][name])
            }
            "allOf" => each().all(accepted),
            "anyOf" => each().any(accepted),
            "oneOf" => each().filter(|schema| accepted(schema)).count() == 1,
            "not" => !accepted(rule),
            "if" => !accepted(rule) || accepted(&schema["then"]),
            "const" => equal(rule, value),
            "type" => match rule.as_array() {
                Some(types) => types.iter().any(|one| is_type(one, value)),
                None => is_type(rule, value),
            },
            "minimum" => value
                .as_f64()
                .is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => value
                .as_f64()
                .is_none_or(|number| number <= rule.as_f64().unwrap()),
            "minLength" => value
                .as_str()
                .is_none_or(|text| !is_below(rule.as_u64().unwrap() - 1, text.chars().count())),
            "maxLength" => value
                .as_str()
                .is_none_or(|text| is_below(rule.as_u64().unwrap(), text.chars().count())),
            "pattern" => value
                .as_str()
                .is_none_or(|text| self.matches(rule.as_str().unwrap(), text)),
            "minItems" => value
                .as_array()
                .is_none_or(|items| !is_below(rule.as_u64().unwrap() - 1, items.len())),
            "uniqueItems" => value.as_array().is_none_or(|items| all_differ(items)),
            "items" => value
                .as_array()
                .is_none_or(|items| items.iter().all(|item| self.accepts_at(rule, item))),
            "required" | "properties" | "additionalProperties" | "propertyNames" => value
                .as_object()
                .is_none_or(|object| self.holds_of_object(schema, keyword, rule, object)),
            unknown => panic!("{unknown} is not known here"),
        }
    }

    fn holds_of_object(
        &self,
        schema: &Map<String, Value>,
        keyword: &str,
        rule: &Value,
        object: &Map<String, Value>,
    ) -> bool {
        let known = schema.get("properties");
        match keyword {
            "required" => {
                let mut keys = rule.as_array().unwrap().iter();
                keys.all(|key| object.contains_key(key.as_str().unwrap()))
            }
            "propertyNames" => object
                .keys()
                .all(|key| self.accepts_at(rule, &Value::from(key.as_str()))),
            "properties" => object.iter().all(|(key, value)| {
                rule.get(key)
                    .is_none_or(|rule| self.accepts_at(rule, value))
            }),
            _ => object
                .iter()
                .filter(|(key, _)| known.is_none_or(|known| known.get(key).is_none()))
                .all(|(_, value)| *rule != Value::Bool(false) && self.accepts_at(rule, value)),
        }
    }

    fn matches(&self, pattern: &str, text: &str) -> bool {
        let mut patterns = self.patterns.borrow_mut();
        let compiled = patterns
            .entry(pattern.to_owned())
            .or_insert_with(|| Regex::new(pattern).unwrap());
        compiled.is_match(text)
    }
}

fn is_type(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        unknown => panic!("{unknown} is not known here"),
    }
}

fn all_differ(items: &[Value]) -> bool {
    let unlike = |(n, one)| items[..n].iter().all(|earlier| !equal(earlier, one));
    items.iter().enumerate().all(unlike)
}

/// Whether two values are equal, as numbers if they are numbers.
fn equal(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one.total_cmp(&other).is_eq(),
        _ => one == other,
    }
}
