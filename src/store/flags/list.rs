//! Lists of flags, by whatever people look for.

use std::fmt::Write as _;

use tokio_postgres::Row;

use super::{Flag, from_row};
use crate::domain::flag::Lifespan;
use crate::domain::key;
use crate::domain::value::ValueType;
use crate::store::configurations::{self, FlagConfiguration};
use crate::store::environments::{Address, Environment};
use crate::store::error::{Entity, Error};
use crate::store::page::{Page, PageRequest};
use crate::store::{Store, pipeline, projects};

/// Filters ask the columns, which are written with the forms.
const LIST: &str = "
    select p.key as project, f.id, f.key, f.name, f.description, f.tags, f.owner, f.lifecycle, f.expected_removal_at, f.form,
        f.version, f.form_version, f.archived_at, f.created_at, f.updated_at,
        c.form as configuration_form, c.version as configuration_version, c.updated_at as configuration_updated_at
    from projects p
    join flags f on f.project_id = p.id
    left join flag_configurations c on c.flag_id = f.id and c.environment_id = $5
    where p.key = $1 and f.key > $2 and ($3 or f.archived_at is null)
        and ($6::text is null or f.key ~ $6 or f.name ~ $6 or f.description ~ $6)
        and f.tags @> $7
        and ($8::text is null or f.value_type = $8)
        and ($9::text is null or f.owner = $9)
        and ($10::text is null or f.lifecycle = $10)
        and case $11::text
            when 'enabled' then c.enabled is true
            when 'disabled' then c.enabled is not true
            when 'unconfigured' then c.flag_id is null
            else true
        end
    order by f.key limit $4";

/// Which flags of a project to list: those that pass every filter.
#[derive(Debug, Clone, Copy, Default)]
pub struct FlagFilter<'a> {
    /// The environment whose configurations to add. `None`: none.
    pub environment: Option<&'a key::Environment>,
    /// Whether to list archived flags too.
    pub archived: bool,
    /// Only flags with this in their key, name or description, whatever the case. Empty: any.
    pub text: &'a str,
    /// Only flags with all of these tags.
    pub tags: &'a [String],
    /// Only flags of this type. `None`: any.
    pub value_type: Option<ValueType>,
    /// Only flags of this owner. `None`: any.
    pub owner: Option<&'a str>,
    /// Only flags that are meant to live so long. `None`: any.
    pub lifespan: Option<Lifespan>,
    /// Only flags in this state in the environment. `None`: any.
    pub state: Option<FlagState>,
}

/// Whether a flag is on in an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagState {
    /// It is on.
    Enabled,
    /// It is off, or was never configured.
    Disabled,
    /// It was never configured.
    Unconfigured,
}

impl FlagState {
    fn name(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Unconfigured => "unconfigured",
        }
    }
}

impl Store {
    /// Lists a project's flags by key, with one environment's configurations if asked.
    pub async fn list_flags(
        &self,
        project: &key::Project,
        filter: FlagFilter<'_>,
        page: &PageRequest,
    ) -> Result<Page<(Flag, Option<FlagConfiguration>)>, Error> {
        let FlagFilter {
            environment,
            archived,
            text,
            tags,
            value_type,
            owner,
            lifespan,
            state,
        } = filter;
        let environment = match environment {
            Some(environment) => Some(self.get_environment(Address { project, environment }).await?),
            None => None,
        };
        let client = self.reader().await?;
        let list: pipeline::Query<'_> = (
            LIST,
            &[
                &project.as_str(),
                &page.after,
                &archived,
                &page.limit(),
                &environment.as_ref().map(|environment| environment.id.0),
                &(!text.is_empty()).then(|| any_case(text)),
                &tags,
                &value_type.map(ValueType::name),
                &owner,
                &lifespan.map(Lifespan::name),
                &state.map(FlagState::name),
            ],
        );
        let found = pipeline::one(&*client, list).await?;
        if found.is_empty() && !projects::exists(&*client, project).await? {
            return Err(Error::not_found(Entity::Project, project));
        }
        let listed = found
            .iter()
            .map(|row| listed(row, environment.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(page.page(listed, |(flag, _): &(Flag, _)| flag.definition.key.to_string()))
    }
}

fn listed(row: &Row, environment: Option<&Environment>) -> Result<(Flag, Option<FlagConfiguration>), Error> {
    let flag = from_row(row)?;
    let configuration = match environment {
        Some(environment) => Some(configurations::of_flag(row, environment, &flag)?.configuration),
        None => None,
    };
    Ok((flag.flag, configuration))
}

/// The regular expression of PostgreSQL's that finds a text whatever the case of its letters.
///
/// The letters are spelled out in both cases, since `lower` and `ilike` know only those of the database's locale: none beyond
/// ASCII in the locale C, which an embedded database has.
pub(in crate::store) fn any_case(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() * 4);
    for c in text.chars() {
        let (lower, upper) = (only(c.to_lowercase()), only(c.to_uppercase()));
        match (lower, upper) {
            (Some(lower), Some(upper)) if lower != upper => {
                let _ = write!(pattern, "[{lower}{upper}{c}]");
            }
            _ if c.is_alphanumeric() || !c.is_ascii() => pattern.push(c),
            _ => pattern.extend(['\\', c]),
        }
    }
    pattern
}

/// The character, if it is one: `ß` is two in upper case.
fn only(mut characters: impl Iterator<Item = char>) -> Option<char> {
    let first = characters.next();
    first.filter(|_| characters.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::any_case;

    #[test]
    fn letters_are_sought_in_both_cases_and_all_else_as_it_is() {
        assert_eq!(any_case("aZ"), "[aAa][zZZ]");
        assert_eq!(any_case("é1 _"), "[éÉé]1\\ \\_");
        assert_eq!(any_case("%.*[^\\"), "\\%\\.\\*\\[\\^\\\\");
        assert_eq!(any_case("ß漢"), "ß漢");
    }
}
