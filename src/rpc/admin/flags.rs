//! Flags and their configurations.

use tonic::{Request, Response};

use super::{Call, answer, at, name_or, page, recorded, write_page, write_revisions};
use crate::domain::flag::{Definition, Metadata, Variant};
use crate::domain::invalid::Violations;
use crate::domain::value::{Value, ValueType};
use crate::domain::{check, key, limits};
use crate::pb::admin::v1 as pb;
use crate::pb::admin::v1::flag_service_server::FlagService;
use crate::rpc::convert::common::{Mask, finish, key, optional_key, place, required, timestamp};
use crate::rpc::convert::{flag, value};
use crate::rpc::{Answer, Refusal};
use crate::store::configurations::{ConfigurationPatch, FlagConfiguration, Toggle};
use crate::store::flags::{Flag, FlagFilter, FlagPatch, NewFlag};
use crate::store::{Store, Written};

/// What an update of a flag may write.
const FLAG_FIELDS: &[&str] = &[
    "name",
    "description",
    "tags",
    "owner",
    "variants",
    "off_variant",
    "default_variant",
    "client_visible",
];
/// What an update of a configuration may write.
const CONFIGURATION_FIELDS: &[&str] = &["enabled", "rules", "default_serve", "salt"];

/// The service.
pub struct Flags {
    store: Store,
}

impl Flags {
    /// Keeps flags in this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl FlagService for Flags {
    async fn create_flag(&self, request: Request<pb::CreateFlagRequest>) -> Answer<pb::CreateFlagResponse> {
        let (call, message) = Call::open(request)?;
        let pb::CreateFlagRequest {
            flag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let flag = required(&mut violations, "flag", flag);
        let project: Option<key::Project> = flag
            .as_ref()
            .and_then(|flag| key(&mut violations, "flag.project", &flag.project));
        call.authorise(project.as_ref())?;
        let new = flag.and_then(|flag| violations.take("flag", read_new(flag)));
        let (project, new) = finish(violations, project.zip(new)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Flag>| pb::CreateFlagResponse {
            flag: Some(write(&written.entity)),
            revisions: write_revisions(&written.revisions),
        };
        let outcome = self
            .store
            .create_flag(&mutation, &project, new, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn get_flag(&self, request: Request<pb::GetFlagRequest>) -> Answer<pb::GetFlagResponse> {
        let (call, pb::GetFlagRequest { project, flag }) = Call::open(request)?;
        let mut violations = Violations::new();
        let (project, flag) = (
            key(&mut violations, "project", &project),
            key(&mut violations, "flag", &flag),
        );
        call.authorise(project.as_ref())?;
        let (project, flag) = finish(violations, project.zip(flag)).map_err(Refusal::Invalid)?;
        let flag = self.store.get_flag(&project, &flag).await.map_err(Refusal::Store)?;
        Ok(Response::new(pb::GetFlagResponse {
            flag: Some(write(&flag)),
        }))
    }

    async fn list_flags(&self, request: Request<pb::ListFlagsRequest>) -> Answer<pb::ListFlagsResponse> {
        let (call, message) = Call::open(request)?;
        let pb::ListFlagsRequest {
            project,
            environment,
            show_archived,
            page_size,
            page_token,
        } = message;
        let mut violations = Violations::new();
        let page = page(&mut violations, page_size, page_token);
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        let environment: Option<key::Environment> = optional_key(&mut violations, "environment", &environment);
        call.authorise(project.as_ref())?;
        let project = finish(violations, project).map_err(Refusal::Invalid)?;
        let filter = FlagFilter {
            environment: environment.as_ref(),
            archived: show_archived,
        };
        let found = self
            .store
            .list_flags(&project, filter, &page)
            .await
            .map_err(Refusal::Store)?;
        let (flags, next_page_token) = write_page(found, |(flag, configuration)| pb::FlagWithConfiguration {
            flag: Some(write(flag)),
            configuration: configuration.as_ref().map(write_configuration),
        });
        Ok(Response::new(pb::ListFlagsResponse { flags, next_page_token }))
    }

    async fn update_flag(&self, request: Request<pb::UpdateFlagRequest>) -> Answer<pb::UpdateFlagResponse> {
        let (call, message) = Call::open(request)?;
        let pb::UpdateFlagRequest {
            flag,
            update_mask,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let mask = Mask::read(&mut violations, update_mask.as_ref(), FLAG_FIELDS);
        let flag = required(&mut violations, "flag", flag);
        let project: Option<key::Project> = flag
            .as_ref()
            .and_then(|flag| key(&mut violations, "flag.project", &flag.project));
        call.authorise(project.as_ref())?;
        let change = flag.and_then(|flag| violations.take("flag", read_patch(flag, &mask)));
        let (project, (flag, patch)) = finish(violations, project.zip(change)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Flag>| pb::UpdateFlagResponse {
            flag: Some(write(&written.entity)),
            revisions: write_revisions(&written.revisions),
            changed: written.changed,
        };
        let outcome = self
            .store
            .update_flag(&mutation, &project, &flag, patch, &etag, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn archive_flag(&self, request: Request<pb::ArchiveFlagRequest>) -> Answer<pb::ArchiveFlagResponse> {
        let (call, message) = Call::open(request)?;
        let pb::ArchiveFlagRequest {
            project,
            flag,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let (project, flag) = (
            key(&mut violations, "project", &project),
            key(&mut violations, "flag", &flag),
        );
        call.authorise(project.as_ref())?;
        let (project, flag) = finish(violations, project.zip(flag)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Flag>| pb::ArchiveFlagResponse {
            flag: Some(write(&written.entity)),
            revisions: write_revisions(&written.revisions),
            changed: written.changed,
        };
        let outcome = self
            .store
            .archive_flag(&mutation, &project, &flag, &etag, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn delete_flag(&self, request: Request<pb::DeleteFlagRequest>) -> Answer<pb::DeleteFlagResponse> {
        let (call, message) = Call::open(request)?;
        let pb::DeleteFlagRequest {
            project,
            flag,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let (project, flag) = (
            key(&mut violations, "project", &project),
            key(&mut violations, "flag", &flag),
        );
        call.authorise(project.as_ref())?;
        let (project, flag) = finish(violations, project.zip(flag)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Flag>| pb::DeleteFlagResponse {
            revisions: write_revisions(&written.revisions),
        };
        let outcome = self
            .store
            .delete_flag(&mutation, &project, &flag, &etag, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn get_flag_configuration(
        &self,
        request: Request<pb::GetFlagConfigurationRequest>,
    ) -> Answer<pb::GetFlagConfigurationResponse> {
        let (call, message) = Call::open(request)?;
        let pb::GetFlagConfigurationRequest {
            project,
            environment,
            flag,
        } = message;
        let mut violations = Violations::new();
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project))?;
        let flag = key(&mut violations, "flag", &flag);
        let ((project, environment), flag) = finish(violations, place.zip(flag)).map_err(Refusal::Invalid)?;
        let found = self.store.get_configuration(at(&project, &environment), &flag).await;
        Ok(Response::new(pb::GetFlagConfigurationResponse {
            configuration: Some(write_configuration(&found.map_err(Refusal::Store)?)),
        }))
    }

    async fn update_flag_configuration(
        &self,
        request: Request<pb::UpdateFlagConfigurationRequest>,
    ) -> Answer<pb::UpdateFlagConfigurationResponse> {
        let (call, message) = Call::open(request)?;
        let pb::UpdateFlagConfigurationRequest {
            configuration,
            update_mask,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let mask = Mask::read(&mut violations, update_mask.as_ref(), CONFIGURATION_FIELDS);
        let configuration = required(&mut violations, "configuration", configuration);
        let project: Option<key::Project> = configuration
            .as_ref()
            .and_then(|it| key(&mut violations, "configuration.project", &it.project));
        call.authorise(project.as_ref())?;
        let change = configuration.and_then(|it| violations.take("configuration", read_configuration(it, &mask)));
        let (project, (environment, flag, patch)) =
            finish(violations, project.zip(change)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<FlagConfiguration>| pb::UpdateFlagConfigurationResponse {
            configuration: Some(write_configuration(&written.entity)),
            revisions: write_revisions(&written.revisions),
            changed: written.changed,
        };
        let recorded = recorded(response);
        let outcome = self
            .store
            .update_configuration(&mutation, at(&project, &environment), &flag, patch, &etag, recorded)
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn toggle_flags(&self, request: Request<pb::ToggleFlagsRequest>) -> Answer<pb::ToggleFlagsResponse> {
        let (call, message) = Call::open(request)?;
        let pb::ToggleFlagsRequest {
            project,
            environment,
            toggles,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project))?;
        let toggles = read_toggles(&mut violations, toggles);
        let (project, environment) = finish(violations, place).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Vec<FlagConfiguration>>| pb::ToggleFlagsResponse {
            configurations: written.entity.iter().map(write_configuration).collect(),
            revisions: write_revisions(&written.revisions),
            changed: written.changed,
        };
        let outcome = self
            .store
            .toggle_flags(&mutation, at(&project, &environment), &toggles, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }
}

/// What a caller may say of a flag; the project is read before, since it decides whether the rest is looked at.
struct Described {
    key: key::Flag,
    metadata: Metadata,
    variants: Vec<Variant>,
    off_variant: Option<key::Variant>,
    default_variant: Option<key::Variant>,
    client_visible: bool,
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
    };
    violations.take("", check::metadata(&metadata));
    let described = key.zip(variants).map(|(key, variants)| Described {
        key,
        metadata,
        variants,
        off_variant,
        default_variant,
        client_visible,
    });
    finish(violations, described)
}

fn read_new(flag: pb::Flag) -> Result<NewFlag, Violations> {
    let mut violations = Violations::new();
    let value_type = flag::read_type(&mut violations, "type", flag.r#type);
    let described = violations.take("", read(flag));
    let (value_type, described) = finish(violations, value_type.zip(described))?;
    let Described {
        key,
        metadata,
        mut variants,
        mut off_variant,
        mut default_variant,
        client_visible,
    } = described;
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

fn read_patch(flag: pb::Flag, mask: &Mask<'_>) -> Result<(key::Flag, FlagPatch), Violations> {
    let Described {
        key,
        metadata,
        variants,
        off_variant,
        default_variant,
        client_visible,
    } = read(flag)?;
    let Metadata {
        name,
        description,
        tags,
        owner,
    } = metadata;
    let patch = FlagPatch {
        name: mask.pick("name", name),
        description: mask.pick("description", description),
        tags: mask.pick("tags", tags),
        owner: mask.pick("owner", owner),
        variants: mask.pick("variants", variants),
        off_variant: mask.pick("off_variant", off_variant),
        default_variant: mask.pick("default_variant", default_variant),
        client_visible: mask.pick("client_visible", client_visible),
    };
    Ok((key, patch))
}

fn read_configuration(
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

fn read_toggles(violations: &mut Violations, toggles: Vec<pb::Toggle>) -> Vec<Toggle> {
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

fn write(flag: &Flag) -> pb::Flag {
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
    }
}

fn write_configuration(configuration: &FlagConfiguration) -> pb::FlagConfiguration {
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
    }
}
