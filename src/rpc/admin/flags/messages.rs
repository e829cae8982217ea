//! What callers say of flags and configurations, and what they are told.

use jiff::Timestamp;

use crate::domain::check;
use crate::domain::flag::{Lifecycle, Lifespan, Metadata};
use crate::domain::invalid::Violations;
use crate::domain::value::{Value, ValueType};
use crate::domain::{draft, key, limits};
use crate::pb::admin::v1 as pb;
use crate::rpc::admin::name_or;
use crate::rpc::convert::common::{Mask, finish, key, read_timestamp, timestamp};
use crate::rpc::convert::{flag, value};
use crate::store::configurations::{ConfigurationPatch, FlagConfiguration, Toggle};
use crate::store::flags::{Flag, FlagPatch, NewFlag};

/// What a caller may say of a flag; the project is read before, since it decides whether the rest is looked at.
struct Described {
    key: String,
    metadata: Metadata,
    value_type: Option<ValueType>,
    variants: Vec<draft::Variant>,
    off_variant: Option<String>,
    default_variant: Option<String>,
    client_visible: bool,
    lifespan: Lifespan,
    expected_removal: Option<Timestamp>,
}

fn read(violations: &mut Violations, flag: pb::Flag) -> Described {
    let pb::Flag {
        project: _,
        key,
        name,
        description,
        tags,
        owner,
        r#type,
        variants,
        off_variant,
        default_variant,
        client_visible,
        archive_time: _,
        create_time: _,
        update_time: _,
        etag: _,
        lifecycle,
        expected_removal_time,
    } = flag;
    let lifespan = read_lifespan(violations, "lifecycle", lifecycle).unwrap_or(Lifespan::Permanent);
    let expected_removal = expected_removal_time
        .and_then(|time| read_timestamp(violations, "expected_removal_time", time))
        .map(stored);
    Described {
        metadata: Metadata {
            // What is wrong with the key is not wrong with the name too.
            name: name_or(name, key.parse::<key::Flag>().ok().as_ref()),
            description,
            tags,
            owner,
            // Which of the two it is and its date are read apart: an update may bring one of them only.
            lifecycle: Lifecycle::default(),
        },
        key,
        value_type: flag::read_type(r#type),
        variants: flag::read_variants(variants),
        off_variant: flag::read_optional(off_variant),
        default_variant: flag::read_optional(default_variant),
        client_visible,
        lifespan,
        expected_removal,
    }
}

/// Reads a lifecycle; unspecified is `None`.
pub(super) fn read_lifespan(violations: &mut Violations, field: &str, lifecycle: i32) -> Option<Lifespan> {
    match pb::Lifecycle::try_from(lifecycle) {
        Ok(pb::Lifecycle::Unspecified) => None,
        Ok(pb::Lifecycle::Permanent) => Some(Lifespan::Permanent),
        Ok(pb::Lifecycle::Temporary) => Some(Lifespan::Temporary),
        Err(_) => {
            violations.add(field, "is not a lifecycle that flags can have");
            None
        }
    }
}

/// A time as PostgreSQL keeps it, in whole microseconds: what is read back equals what was written.
fn stored(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

pub(super) fn read_new(flag: pb::Flag) -> Result<NewFlag, Violations> {
    let mut violations = Violations::new();
    let Described {
        key,
        mut metadata,
        value_type,
        mut variants,
        mut off_variant,
        mut default_variant,
        client_visible,
        lifespan,
        expected_removal,
    } = read(&mut violations, flag);
    let lifecycle = violations.take("", Lifecycle::new(lifespan, expected_removal));
    metadata.lifecycle = lifecycle.unwrap_or_default();
    if value_type == Some(ValueType::Bool) && variants.is_empty() {
        variants = [("on", true), ("off", false)].map(bool_variant).into();
        off_variant.get_or_insert_with(|| "off".to_owned());
        default_variant.get_or_insert_with(|| "on".to_owned());
    }
    let draft = draft::Definition {
        key,
        value_type,
        variants,
        off_variant,
        default_variant,
        client_visible,
    };
    violations.take("", check::metadata(&metadata));
    let definition = violations.take("", check::definition(&draft));
    let new = definition.map(|definition| NewFlag { definition, metadata });
    finish(violations, new)
}

fn bool_variant((key, value): (&str, bool)) -> draft::Variant {
    draft::Variant {
        key: key.to_owned(),
        value: Ok(Value::Bool(value)),
        description: String::new(),
    }
}

/// What is said of a flag is checked where it is known what the flag was.
pub(super) fn read_patch(flag: pb::Flag, mask: &Mask<'_>) -> Result<(key::Flag, FlagPatch), Violations> {
    let mut violations = Violations::new();
    let Described {
        key: flag_key,
        metadata,
        // It cannot be changed.
        value_type: _,
        variants,
        off_variant,
        default_variant,
        client_visible,
        lifespan,
        expected_removal,
    } = read(&mut violations, flag);
    let Metadata {
        name,
        description,
        tags,
        owner,
        lifecycle: _,
    } = metadata;
    let patch = FlagPatch {
        name: mask.pick("name", name),
        description: mask.pick("description", description),
        tags: mask.pick("tags", tags),
        owner: mask.pick("owner", owner),
        lifespan: mask.pick("lifecycle", lifespan),
        expected_removal: mask.pick("expected_removal_time", expected_removal),
        variants: mask.pick("variants", variants),
        off_variant: mask.pick("off_variant", off_variant),
        default_variant: mask.pick("default_variant", default_variant),
        client_visible: mask.pick("client_visible", client_visible),
    };
    let key = key(&mut violations, "key", &flag_key);
    finish(violations, key.map(|key| (key, patch)))
}

/// What is said of a configuration is checked where the flag is known.
pub(super) fn read_configuration(
    configuration: pb::FlagConfiguration,
    mask: &Mask<'_>,
    strict: bool,
) -> Result<(key::Environment, key::Flag, ConfigurationPatch), Violations> {
    let mut violations = Violations::new();
    let environment = key(&mut violations, "environment", &configuration.environment);
    let flag_key = key(&mut violations, "flag", &configuration.flag);
    let draft::Configuration {
        enabled,
        prerequisites,
        rules,
        default,
        salt,
    } = read_draft(configuration);
    let patch = ConfigurationPatch {
        enabled: mask.pick("enabled", enabled),
        prerequisites: mask.pick("prerequisites", prerequisites),
        rules: mask.pick("rules", rules),
        default: mask.pick("default_serve", default),
        salt: mask.pick("salt", salt),
        strict,
    };
    let place = environment.zip(flag_key);
    finish(violations, place.map(|(environment, flag)| (environment, flag, patch)))
}

/// Reads a configuration; where it is one, is read beside it.
pub(super) fn read_draft(configuration: pb::FlagConfiguration) -> draft::Configuration {
    let pb::FlagConfiguration {
        project: _,
        environment: _,
        flag: _,
        enabled,
        rules,
        default_serve,
        salt,
        update_time: _,
        etag: _,
        prerequisites,
    } = configuration;
    draft::Configuration {
        enabled,
        prerequisites: flag::read_prerequisites(prerequisites),
        rules: flag::read_rules(rules),
        default: default_serve.map(flag::read_serve),
        salt: flag::read_optional(salt),
    }
}

pub(super) fn read_toggles(violations: &mut Violations, toggles: Vec<pb::Toggle>) -> Vec<Toggle> {
    if toggles.is_empty() {
        violations.add("toggles", "is empty; name at least one flag");
    }
    if toggles.len() > limits::TOGGLES {
        violations.add(
            "toggles",
            format!("has {} entries; the limit is {}", toggles.len(), limits::TOGGLES),
        );
    }
    let toggles = toggles.into_iter().take(limits::TOGGLES).enumerate();
    toggles
        .filter_map(|(n, pb::Toggle { flag, enabled })| {
            let flag = key(violations, &format!("toggles[{n}].flag"), &flag)?;
            Some(Toggle { flag, enabled })
        })
        .collect()
}

pub(super) fn write(flag: &Flag) -> pb::Flag {
    let Flag {
        project,
        definition,
        metadata,
        archived_at,
        created_at,
        updated_at,
        etag,
    } = flag;
    let Metadata {
        name,
        description,
        tags,
        owner,
        lifecycle,
    } = metadata;
    pb::Flag {
        project: project.to_string(),
        key: definition.key.to_string(),
        name: name.clone(),
        description: description.clone(),
        tags: tags.clone(),
        owner: owner.clone(),
        r#type: value::write_type(definition.value_type).into(),
        variants: definition.variants.iter().map(flag::write_variant).collect(),
        off_variant: flag::write_variant_key(definition.off_variant.as_ref()),
        default_variant: flag::write_variant_key(definition.default_variant.as_ref()),
        client_visible: definition.client_visible,
        archive_time: archived_at.map(timestamp),
        create_time: Some(timestamp(*created_at)),
        update_time: Some(timestamp(*updated_at)),
        etag: etag.clone(),
        lifecycle: match lifecycle.lifespan() {
            Lifespan::Permanent => pb::Lifecycle::Permanent.into(),
            Lifespan::Temporary => pb::Lifecycle::Temporary.into(),
        },
        expected_removal_time: lifecycle.expected_removal().map(timestamp),
    }
}

pub(super) fn write_configuration(configuration: &FlagConfiguration) -> pb::FlagConfiguration {
    let FlagConfiguration {
        project,
        environment,
        flag: flag_key,
        configuration,
        updated_at,
        etag,
    } = configuration;
    pb::FlagConfiguration {
        project: project.to_string(),
        environment: environment.to_string(),
        flag: flag_key.to_string(),
        enabled: configuration.enabled,
        rules: configuration.rules.iter().map(flag::write_rule).collect(),
        default_serve: configuration.default.as_ref().map(flag::write_serve),
        salt: configuration.salt.clone().unwrap_or_default(),
        update_time: updated_at.map(timestamp),
        etag: etag.clone(),
        prerequisites: configuration
            .prerequisites
            .iter()
            .map(flag::write_prerequisite)
            .collect(),
    }
}
