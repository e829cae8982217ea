//! Which flags a caller wants to see.

use super::messages::read_lifespan;
use crate::domain::flag::Lifespan;
use crate::domain::invalid::Violations;
use crate::domain::value::ValueType;
use crate::domain::{check, key, limits};
use crate::pb::admin::v1 as pb;
use crate::pb::evaluation::v1::ValueType as PbValueType;
use crate::rpc::convert::common::optional_key;
use crate::rpc::convert::value;
use crate::store::flags::{FlagFilter, FlagState};

/// The filters of a list.
pub(super) struct Filter {
    environment: Option<key::Environment>,
    archived: bool,
    text: String,
    tags: Vec<String>,
    value_type: Option<ValueType>,
    owner: String,
    lifespan: Option<Lifespan>,
    state: Option<FlagState>,
}

impl Filter {
    /// Reads what a request says beside its project and its page.
    pub(super) fn read(violations: &mut Violations, request: pb::ListFlagsRequest) -> Self {
        let pb::ListFlagsRequest {
            project: _,
            environment: environment_key,
            show_archived,
            text,
            tags,
            r#type,
            owner,
            state,
            lifecycle,
            page_size: _,
            page_token: _,
        } = request;
        check::text(violations, "text", &text, limits::NAME_CHARS);
        check::text(violations, "owner", &owner, limits::NAME_CHARS);
        if tags.len() > limits::TAGS {
            violations.add(
                "tags",
                format!("has {} entries; no flag has more than {}", tags.len(), limits::TAGS),
            );
        }
        for (n, tag) in tags.iter().enumerate().take(limits::TAGS) {
            check::text(violations, &format!("tags[{n}]"), tag, limits::TAG_CHARS);
        }
        let state = read_state(violations, state);
        if state.is_some() && environment_key.is_empty() {
            violations.add("environment", "is empty; a state is one in an environment: name it");
        }
        Self {
            environment: optional_key(violations, "environment", &environment_key),
            archived: show_archived,
            text,
            tags,
            value_type: read_type(violations, r#type),
            owner,
            lifespan: read_lifespan(violations, "lifecycle", lifecycle),
            state,
        }
    }

    /// The same, as the store is told.
    pub(super) fn as_store(&self) -> FlagFilter<'_> {
        FlagFilter {
            environment: self.environment.as_ref(),
            archived: self.archived,
            text: &self.text,
            tags: &self.tags,
            value_type: self.value_type,
            owner: (!self.owner.is_empty()).then_some(&self.owner),
            lifespan: self.lifespan,
            state: self.state,
        }
    }
}

fn read_type(violations: &mut Violations, value_type: i32) -> Option<ValueType> {
    let Ok(value_type) = PbValueType::try_from(value_type) else {
        violations.add("type", "is not a type that flags can have");
        return None;
    };
    value::read_type(value_type)
}

fn read_state(violations: &mut Violations, state: i32) -> Option<FlagState> {
    match pb::FlagState::try_from(state) {
        Ok(pb::FlagState::Unspecified) => None,
        Ok(pb::FlagState::Enabled) => Some(FlagState::Enabled),
        Ok(pb::FlagState::Disabled) => Some(FlagState::Disabled),
        Ok(pb::FlagState::Unconfigured) => Some(FlagState::Unconfigured),
        Err(_) => {
            violations.add("state", "is not a state that flags can be in");
            None
        }
    }
}
