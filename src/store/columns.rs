//! Definitions and configurations as columns, which people can read, constrain and edit.
//!
//! They are written in the statements that write the form, and nothing reads them in its place, but for [`hand`](super::hand)
//! where somebody edited them. One vector per column, as `unnest` takes them.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};
use tokio_postgres::types::Json;

use crate::domain::flag::{Configuration, Definition, Prerequisite, Variant};
use crate::domain::rule::{Rule, Serve};
use crate::domain::value::Value;

/// The variants of one flag, in their order.
pub(super) struct Variants<'a> {
    pub keys: Vec<&'a str>,
    pub values: Vec<Json<Bare<'a>>>,
    pub descriptions: Vec<&'a str>,
}

/// A value without the name of its type, which the flag's row has.
#[derive(Debug)]
pub(super) struct Bare<'a>(&'a Value);

/// Configurations of one environment.
#[derive(Default)]
pub(super) struct Configurations<'a> {
    pub flag_ids: Vec<i64>,
    pub forms: Vec<&'a [u8]>,
    pub enabled: Vec<bool>,
    pub rules: Vec<Json<&'a [Rule]>>,
    pub default_serves: Vec<Option<Json<&'a Serve>>>,
    pub salts: Vec<Option<&'a str>>,
    pub prerequisites: Vec<Json<&'a [Prerequisite]>>,
}

/// Who depends on whom, of the configurations whose dependencies changed.
#[derive(Default)]
pub(super) struct Links<'a> {
    /// Whose dependencies changed.
    pub changed: Vec<i64>,
    /// Flags and the keys of their prerequisites.
    pub prerequisites: (Vec<i64>, Vec<&'a str>),
    /// Flags and the keys of the segments that they ask about.
    pub segments: (Vec<i64>, Vec<&'a str>),
}

impl<'a> Variants<'a> {
    pub(super) fn of(definition: &'a Definition) -> Self {
        let mut columns = Self {
            keys: Vec::new(),
            values: Vec::new(),
            descriptions: Vec::new(),
        };
        for variant in &definition.variants {
            let Variant {
                key,
                value,
                description,
            } = variant;
            columns.keys.push(key.as_str());
            columns.values.push(Json(Bare(value)));
            columns.descriptions.push(description);
        }
        columns
    }
}

impl Serialize for Bare<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bool(value) => value.serialize(serializer),
            Value::String(value) => value.serialize(serializer),
            Value::Integer(value) => value.serialize(serializer),
            Value::Double(value) => value.serialize(serializer),
            Value::Object(value) => value.serialize(serializer),
        }
    }
}

impl<'a> Configurations<'a> {
    /// Adds a flag's configuration, and the form of it.
    pub(super) fn push(&mut self, flag_id: i64, configuration: &'a Configuration, form: &'a [u8]) {
        let Configuration {
            enabled,
            prerequisites,
            rules,
            default,
            salt,
        } = configuration;
        self.flag_ids.push(flag_id);
        self.forms.push(form);
        self.enabled.push(*enabled);
        self.rules.push(Json(rules));
        self.default_serves.push(default.as_ref().map(Json));
        self.salts.push(salt.as_deref());
        self.prerequisites.push(Json(prerequisites));
    }
}

impl<'a> Links<'a> {
    /// Adds a flag's dependencies, if they are not what they were.
    pub(super) fn push(&mut self, flag_id: i64, before: &Configuration, after: &'a Configuration) {
        let (prerequisites, segments) = dependencies(after);
        if dependencies(before) == (prerequisites.clone(), segments.clone()) {
            return;
        }
        self.changed.push(flag_id);
        for key in prerequisites {
            self.prerequisites.0.push(flag_id);
            self.prerequisites.1.push(key);
        }
        for key in segments {
            self.segments.0.push(flag_id);
            self.segments.1.push(key);
        }
    }
}

/// The keys of the flags and of the segments that a configuration depends on.
fn dependencies(configuration: &Configuration) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let prerequisites = configuration.prerequisites.iter();
    (
        prerequisites.map(|prerequisite| prerequisite.flag.as_str()).collect(),
        configuration.segments().collect(),
    )
}
