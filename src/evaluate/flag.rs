//! One flag, compiled: what its definition and its configuration say together, and the order in which that is asked.

use std::sync::Arc;

use super::bucket::Split;
use super::malformed::Malformed;
use super::matcher::Condition;
use super::{Answer, Error, Reason};
use crate::domain::context::Context;
use crate::domain::flag::Variant;
use crate::domain::key;

/// One flag of an environment, compiled.
#[derive(Debug)]
pub struct Flag {
    pub(super) key: Arc<str>,
    pub(super) client_visible: bool,
    pub(super) off: Option<Arc<Variant>>,
    pub(super) state: State,
}

/// What a flag does.
#[derive(Debug)]
pub(super) enum State {
    /// It is off.
    Disabled,
    /// It is on.
    Enabled(Targeting),
    /// It cannot be compiled.
    Malformed(Malformed),
}

/// What an enabled flag serves to whom.
#[derive(Debug)]
pub(super) struct Targeting {
    pub(super) rules: Box<[Rule]>,
    /// `None`: no value.
    pub(super) default: Option<Serve>,
}

/// A rule, compiled.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) key: key::Rule,
    pub(super) conditions: Box<[Condition]>,
    pub(super) serve: Serve,
}

/// What a rule or the default serves.
#[derive(Debug)]
pub(super) enum Serve {
    Variant(Arc<Variant>),
    Split(Split),
}

impl Flag {
    /// The flag's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether client keys may evaluate it. A flag whose definition cannot be read is not visible.
    pub fn client_visible(&self) -> bool {
        self.client_visible
    }

    /// Why the flag cannot be compiled, for the log and for whoever administers it. `None`: it can.
    pub fn malformed(&self) -> Option<&Malformed> {
        match &self.state {
            State::Malformed(malformed) => Some(malformed),
            State::Disabled | State::Enabled(_) => None,
        }
    }

    /// The flag's answer for a context. The module's documentation says in which order what is asked.
    pub fn evaluate<'a>(&'a self, context: &Context) -> Answer<'a> {
        match &self.state {
            State::Malformed(_) => self.off(Reason::Error(Error::FlagMalformed)),
            State::Disabled => self.off(Reason::Disabled),
            State::Enabled(targeting) => targeting
                .by_rule(context)
                .or_else(|| targeting.by_default(context))
                .unwrap_or_else(|| self.off(Reason::Error(Error::TargetingKeyMissing))),
        }
    }

    fn off(&self, reason: Reason) -> Answer<'_> {
        Answer {
            variant: self.off.as_deref(),
            reason,
            rule: None,
        }
    }
}

impl Targeting {
    /// `None`: no rule serves this context.
    fn by_rule(&self, context: &Context) -> Option<Answer<'_>> {
        self.rules.iter().find_map(|rule| {
            let holds = rule.conditions.iter().all(|condition| condition.holds(context));
            let (variant, reason) = holds.then(|| rule.serve.to(context, Reason::TargetingMatch))??;
            Some(Answer {
                variant: Some(variant),
                reason,
                rule: Some(rule.key.as_str()),
            })
        })
    }

    /// `None`: the default is a split that cannot bucket this context.
    fn by_default(&self, context: &Context) -> Option<Answer<'_>> {
        let unsplit = if self.rules.is_empty() {
            Reason::Static
        } else {
            Reason::Default
        };
        let (variant, reason) = match &self.default {
            Some(serve) => serve
                .to(context, unsplit)
                .map(|(variant, reason)| (Some(variant), reason))?,
            None => (None, unsplit),
        };
        Some(Answer {
            variant,
            reason,
            rule: None,
        })
    }
}

impl Serve {
    /// What a context is served and why, `unsplit` being the reason of a variant served to everyone. `None`: a split that cannot
    /// bucket this context.
    fn to(&self, context: &Context, unsplit: Reason) -> Option<(&Variant, Reason)> {
        match self {
            Self::Variant(variant) => Some((variant, unsplit)),
            Self::Split(split) => split.serve(context).map(|variant| (variant, Reason::Split)),
        }
    }
}
