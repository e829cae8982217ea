//! What the values of an issuer's claim mean here.

use crate::domain::access::Role;
use crate::domain::identity::Claimed;
use crate::domain::key;

/// What the values of a claim mean. A value that is not in it means nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleMap(Vec<(String, Meaning)>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    Administrator,
    Member(key::Project, Role),
}

impl RoleMap {
    /// Reads mappings, `<value>=administrator` or `<value>=<project>:<role>`, one a line or, on a single line, with commas between
    /// them. What is wrong with any of them is said so that it goes on after the setting's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let separator = if text.contains('\n') { '\n' } else { ',' };
        let mappings = text
            .split(separator)
            .map(str::trim)
            .filter(|mapping| !mapping.is_empty());
        let (mut read, mut problems) = (Vec::new(), Vec::new());
        for mapping in mappings {
            match parse_one(mapping) {
                Ok(meaning) => read.push(meaning),
                Err(problem) => problems.push(format!("{mapping:?} {problem}")),
            }
        }
        if read.is_empty() && problems.is_empty() {
            return Err("is empty; it takes mappings such as platform-team=shop:admin".to_owned());
        }
        if problems.is_empty() {
            Ok(Self(read))
        } else {
            Err(format!("holds what is no mapping: {}; in", problems.join("; ")))
        }
    }

    /// The roles that some values give together.
    pub fn meaning(&self, values: &[&str]) -> Claimed {
        let mut claimed = Claimed::default();
        for (_, meaning) in self.0.iter().filter(|(value, _)| values.contains(&value.as_str())) {
            match meaning {
                Meaning::Administrator => claimed.administrator = true,
                Meaning::Member(project, role) => claimed.add(project, *role),
            }
        }
        claimed
    }
}

/// The value may hold `=`, as distinguished names do; what it means never does.
fn parse_one(mapping: &str) -> Result<(String, Meaning), &'static str> {
    const FORM: &str = "is neither <value>=administrator nor <value>=<project>:<role>";
    let (value, meaning) = mapping.rsplit_once('=').ok_or(FORM)?;
    let (value, meaning) = (value.trim(), meaning.trim());
    if value.is_empty() {
        return Err("has no value before the =");
    }
    if meaning == "administrator" {
        return Ok((value.to_owned(), Meaning::Administrator));
    }
    let (project, role) = meaning.split_once(':').ok_or(FORM)?;
    let project = key::Project::new(project).map_err(|_| "has no project's key before the :")?;
    let role = Role::from_name(role).ok_or("has none of owner, admin, developer and viewer behind the :")?;
    Ok((value.to_owned(), Meaning::Member(project, role)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_mean_what_is_mapped_and_others_nothing() {
        let map = RoleMap::parse("ops=administrator, team=shop:developer,team=blog:viewer,leads=shop:owner").unwrap();
        let claimed = map.meaning(&["team", "leads", "others"]);
        let roles: Vec<_> = claimed
            .projects
            .iter()
            .map(|(key, role)| (key.as_str(), *role))
            .collect();
        assert_eq!(roles, [("blog", Role::Viewer), ("shop", Role::Owner)]);
        assert!(!claimed.administrator);
        assert!(map.meaning(&["ops"]).administrator);
        assert_eq!(map.meaning(&["OPS", "tea", ""]), Claimed::default());
    }

    #[test]
    fn a_mapping_a_line_may_hold_commas_and_equal_signs() {
        let map = RoleMap::parse("CN=flags,OU=groups=shop:admin\n").unwrap();
        assert_eq!(map.meaning(&["CN=flags,OU=groups"]).projects.len(), 1);
    }

    #[test]
    fn everything_that_is_no_mapping_is_said_at_once() {
        let said = RoleMap::parse("ops,=administrator,a=b,a=shop:king,a=Shop!:owner,fine=shop:owner").unwrap_err();
        for part in [
            "\"ops\"",
            "\"=administrator\"",
            "\"a=b\"",
            "\"a=shop:king\"",
            "\"a=Shop!:owner\"",
        ] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        assert!(!said.contains("fine"), "{said}");
        assert!(RoleMap::parse(" , ").is_err());
    }
}
