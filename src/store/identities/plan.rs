//! What a claim changes, from what it says and what there is: no statement, no lock.

use crate::domain::access::{InstanceRole, Role};
use crate::domain::identity::Claimed;
use crate::domain::{key, limits};

/// What the account is in the installation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instance {
    pub role: Option<InstanceRole>,
    /// Whether a claim of the same identity gave the role.
    pub given: bool,
    /// Whether there is no other active administrator.
    pub alone: bool,
}

/// What the account is in one project.
#[derive(Debug)]
pub(super) struct Standing {
    pub id: i64,
    pub project: key::Project,
    pub role: Option<Role>,
    /// Whether a claim of the same identity gave the role.
    pub given: bool,
    /// How many members there are.
    pub members: u64,
    /// Whether there is no other active owner.
    pub alone: bool,
}

/// A membership that changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub id: i64,
    pub project: key::Project,
    pub before: Option<Role>,
    /// `None`: it ends.
    pub after: Option<Role>,
}

/// What a claim changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The role in the installation as it will be.
    pub role: Option<InstanceRole>,
    /// Whether it is the claim's then.
    pub administrator_given: bool,
    pub changes: Vec<Change>,
    /// What the claim asks for and is not done, for the log.
    pub skipped: Vec<String>,
}

impl Plan {
    /// `projects` are all that exist of those that the claim names, and all in which it gave a role.
    pub fn new(claimed: &Claimed, instance: Instance, projects: &[Standing]) -> Self {
        let mut plan = Self::default();
        plan.installation(claimed, instance);
        for standing in projects {
            plan.project(claimed, standing);
        }
        for missing in claimed
            .projects
            .keys()
            .filter(|key| projects.iter().all(|known| known.project != **key))
        {
            plan.skipped.push(format!("there is no project {missing}"));
        }
        plan
    }

    fn installation(&mut self, claimed: &Claimed, Instance { role, given, alone }: Instance) {
        (self.role, self.administrator_given) = match (claimed.administrator, role) {
            (true, None) => (Some(InstanceRole::Administrator), true),
            (true, Some(role)) => (Some(role), given),
            (false, Some(role)) if given && alone => {
                self.skipped.push("the last active administrator stays one".to_owned());
                (Some(role), true)
            }
            (false, Some(_)) if given => (None, false),
            (false, role) => (role, false),
        };
    }

    fn project(&mut self, claimed: &Claimed, standing: &Standing) {
        let Standing {
            id,
            project,
            role: before,
            given,
            members,
            alone,
        } = standing;
        let after = match claimed.projects.get(project) {
            Some(role) => Some(*role),
            None if *given => None,
            None => *before,
        };
        if after == *before {
            return;
        }
        if *before == Some(Role::Owner) && *alone {
            self.skipped
                .push(format!("the last active owner of {project} stays one"));
            return;
        }
        if before.is_none() && *members >= limits::MEMBERS as u64 {
            self.skipped
                .push(format!("{project} has as many members as a project may have"));
            return;
        }
        self.changes.push(Change {
            id: *id,
            project: project.clone(),
            before: *before,
            after,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Instance = Instance {
        role: None,
        given: false,
        alone: false,
    };

    fn shop(role: Option<Role>, given: bool) -> Standing {
        Standing {
            id: 1,
            project: key::Project::new("shop").unwrap(),
            role,
            given,
            members: 5,
            alone: false,
        }
    }

    fn claimed(role: Option<Role>) -> Claimed {
        let mut claimed = Claimed::default();
        if let Some(role) = role {
            claimed.add(&key::Project::new("shop").unwrap(), role);
        }
        claimed
    }

    /// What becomes of a role in a project. Empty: nothing.
    fn becomes(claim: Option<Role>, standing: Standing) -> Vec<Option<Role>> {
        let plan = Plan::new(&claimed(claim), NOBODY, &[standing]);
        plan.changes.iter().map(|change| change.after).collect()
    }

    #[test]
    fn the_claim_wins_where_it_gives_a_role() {
        use Role::{Admin, Viewer};
        assert_eq!(becomes(Some(Admin), shop(None, false)), [Some(Admin)]);
        assert_eq!(becomes(Some(Admin), shop(Some(Viewer), false)), [Some(Admin)]);
        assert_eq!(becomes(Some(Viewer), shop(Some(Admin), true)), [Some(Viewer)]);
        assert_eq!(becomes(Some(Admin), shop(Some(Admin), false)), []);
    }

    #[test]
    fn it_takes_away_what_it_gave_and_nothing_else() {
        assert_eq!(becomes(None, shop(Some(Role::Admin), true)), [None]);
        assert_eq!(becomes(None, shop(Some(Role::Admin), false)), []);
        assert_eq!(becomes(None, shop(None, false)), []);
    }

    #[test]
    fn the_last_owner_and_a_full_project_are_left_alone() {
        let last = Standing {
            alone: true,
            ..shop(Some(Role::Owner), true)
        };
        let full = Standing {
            members: limits::MEMBERS as u64,
            ..shop(None, false)
        };
        for (claim, standing) in [(None, last), (Some(Role::Viewer), full)] {
            let plan = Plan::new(&claimed(claim), NOBODY, &[standing]);
            assert_eq!((plan.changes.len(), plan.skipped.len()), (0, 1), "{plan:?}");
        }
    }

    #[test]
    fn a_project_that_does_not_exist_is_passed_over() {
        let plan = Plan::new(&claimed(Some(Role::Admin)), NOBODY, &[]);
        assert_eq!(plan.skipped, ["there is no project shop"]);
    }

    #[test]
    fn administrators_by_claim_are_so_no_longer_without_it_except_the_last() {
        let check = |claims: bool, (held, given, alone): (bool, bool, bool), expected: (bool, bool, usize)| {
            let claimed = Claimed {
                administrator: claims,
                ..Claimed::default()
            };
            let role = held.then_some(InstanceRole::Administrator);
            let plan = Plan::new(&claimed, Instance { role, given, alone }, &[]);
            let became = (plan.role.is_some(), plan.administrator_given, plan.skipped.len());
            assert_eq!(became, expected, "{claims} {held} {given} {alone}");
        };
        check(true, (false, false, false), (true, true, 0));
        check(true, (true, false, false), (true, false, 0));
        check(true, (true, true, true), (true, true, 0));
        check(false, (true, true, false), (false, false, 0));
        check(false, (true, true, true), (true, true, 1));
        check(false, (true, false, false), (true, false, 0));
        check(false, (false, false, false), (false, false, 0));
    }
}
