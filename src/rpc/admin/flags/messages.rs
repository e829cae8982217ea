//! What callers say of flags and configurations, and what they are told.

use jiff::Timestamp;

use crate::domain::flag::{Definition, Lifecycle, Lifespan, Metadata, Variant};
use crate::domain::invalid::Violations;
use crate::domain::value::{Value, ValueType};
use crate::domain::{check, key, limits};
use crate::pb::admin::v1 as pb;
use crate::rpc::admin::name_or;
use crate::rpc::convert::common::{Mask, finish, key, read_timestamp, timestamp};
use crate::rpc::convert::{flag, value};
use crate::store::configurations::{ConfigurationPatch, FlagConfiguration, Toggle};
use crate::store::flags::{Flag, FlagPatch, NewFlag};

/// What a caller may say of a flag; the project is read before, since it decides whether the rest is looked at.
struct Described {
    key: key::Flag,
    metadata: Metadata,
    variants: Vec<Variant>,
    off_variant: Option<key::Variant>,
    default_variant: Option<key::Variant>,
    client_visible: bool,
    lifespan: Lifespan,
    expected_removal: Option<Timestamp>,
}

fn read(flag: pb::Flag) -> Result<Described, Violations> {
    let pb::Flag {
        project: _,
        key: flag_key,
        name,
        description,
        tags,
        owner,
        r#type: _,
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
    let mut violations = Violations::new();
    let key: Option<key::Flag> = key(&mut violations, "key", &flag_key);
    let variants = violations.take("", flag::read_variants(variants));
    let off_variant = flag::read_variant_key(&mut violations, "off_variant", &off_variant);
    let default_variant = flag::read_variant_key(&mut violations, "default_variant", &default_variant);
    let metadata = Metadata {
        name: name_or(name, key.as_ref()),
        description,
        tags,
        owner,
        // Which of the two it is and its date are read apart: an update may bring one of them only.
        lifecycle: Lifecycle::default(),
    };
    violations.take("", check::metadata(&metadata));
    let lifespan = read_lifespan(&mut violations, "lifecycle", lifecycle).unwrap_or(Lifespan::Permanent);
    let expected_removal = expected_removal_time
        .and_then(|time| read_timestamp(&mut violations, "expected_removal_time", time))
        .map(stored);
    let described = key.zip(variants).map(|(key, variants)| Described {
        key,
        metadata,
        variants,
        off_variant,
        default_variant,
        client_visible,
        lifespan,
        expected_removal,
    });
    finish(violations, described)
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
    let value_type = flag::read_type(&mut violations, "type", flag.r#type);
    let described = violations.take("", read(flag));
    let (value_type, described) = finish(violations, value_type.zip(described))?;
    let Described {
        key,
        mut metadata,
        mut variants,
        mut off_variant,
        mut default_variant,
        client_visible,
        lifespan,
        expected_removal,
    } = described;
    metadata.lifecycle = Lifecycle::new(lifespan, expected_removal)?;
    if value_type == ValueType::Bool && variants.is_empty() {
        let [on, off] = [("on", true), ("off", false)].map(|(key, value)| {
            key::Variant::new(key).map(|key| Variant {
                key,
                value: Value::Bool(value),
                description: String::new(),
            })
        });
        let (on, off) = (on?, off?);
        off_variant = off_variant.or_else(|| Some(off.key.clone()));
        default_variant = default_variant.or_else(|| Some(on.key.clone()));
        variants = vec![on, off];
    }
    let definition = Definition {
        key,
        value_type,
        variants,
        off_variant,
        default_variant,
        client_visible,
    };
    Ok(NewFlag { definition, metadata })
}

pub(super) fn read_patch(flag: pb::Flag, mask: &Mask<'_>) -> Result<(key::Flag, FlagPatch), Violations> {
    let Described {
        key,
        metadata,
        variants,
        off_variant,
        default_variant,
        client_visible,
        lifespan,
        expected_removal,
    } = read(flag)?;
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
    Ok((key, patch))
}

pub(super) fn read_configuration(
    configuration: pb::FlagConfiguration,
    mask: &Mask<'_>,
) -> Result<(key::Environment, key::Flag, ConfigurationPatch), Violations> {
    let pb::FlagConfiguration {
        project: _,
        environment,
        flag: flag_key,
        enabled,
        rules,
        default_serve,
        salt,
        update_time: _,
        etag: _,
        prerequisites: _,
    } = configuration;
    let mut violations = Violations::new();
    let environment = key(&mut violations, "environment", &environment);
    let flag_key = key(&mut violations, "flag", &flag_key);
    let rules = violations.take("", flag::read_rules(rules));
    let default = default_serve.and_then(|serve| violations.take("default_serve", flag::read_serve(serve)));
    let patch = rules.map(|rules| ConfigurationPatch {
        enabled: mask.pick("enabled", enabled),
        rules: mask.pick("rules", rules),
        default: mask.pick("default_serve", default),
        salt: mask.pick("salt", (!salt.is_empty()).then_some(salt)),
    });
    let change = environment.zip(flag_key).zip(patch);
    finish(
        violations,
        change.map(|((environment, flag), patch)| (environment, flag, patch)),
    )
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
