//! Experiments: designed, started, paused, stopped. What is evaluated of one is its form, which it has only while it runs.
//!
//! | file | what |
//! |---|---|
//! | `rows` | an experiment as it is stored |
//! | `around` | what a design is checked against |
//! | `create`, `update` | designing it |
//! | `write` | what every write of an experiment has in common |
//! | `transition` | starting, pausing, resuming, stopping |
//! | `layers` | layers, and who has which part of them |
//! | `assignments` | what is stored of units, for people |

mod around;
pub mod assignments;
mod create;
pub mod layers;
mod rows;
mod transition;
mod update;
mod write;

pub(in crate::store) use write::deletions;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::environments::Address;
use super::error::{Entity, Error};
use super::mutation::{Mutation, Outcome, Versioned, Written};
use super::page::{Page, PageRequest};
use super::{Store, pipeline};
use crate::domain::experiment::{Design, LayerPart, Metadata, Metric, State, Transition};
use crate::domain::{draft, key};

const LIST: &str = concat!(
    rows::columns!(),
    "where p.key = $1 and v.key = $2 and e.key > $3 and ($5::text is null or f.key = $5) and ($6::text is null or e.state = $6)
    order by e.key limit $4"
);

/// An experiment. What serialises is what audit entries keep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Experiment {
    /// Its project.
    #[serde(skip)]
    pub project: key::Project,
    /// Its environment.
    #[serde(skip)]
    pub environment: key::Environment,
    /// Its key.
    pub key: key::Experiment,
    /// The flag that it is on.
    pub flag: key::Flag,
    /// Where it stands.
    pub state: State,
    /// What people know of it.
    #[serde(flatten)]
    pub metadata: Metadata,
    /// What it compares, and on whom.
    #[serde(flatten)]
    pub design: Design,
    /// Its part of its layer. `None`: it is in none, or is stopped.
    pub layer_part: Option<LayerPart>,
    /// What units are hashed with.
    pub salt: Uuid,
    /// The largest allocation that it ever ran with. Zero: it never ran.
    pub largest_allocation: u32,
    /// From the first to the one that goes on. None: it never ran.
    pub iterations: Vec<Iteration>,
    /// The variant that won. `None`: it is not stopped, or nobody said.
    pub winner: Option<key::Variant>,
    /// When it was started. `None`: never.
    #[serde(skip)]
    pub started_at: Option<Timestamp>,
    /// When it was stopped. `None`: it is not.
    #[serde(skip)]
    pub stopped_at: Option<Timestamp>,
    /// When it was created.
    #[serde(skip)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[serde(skip)]
    pub updated_at: Timestamp,
    /// Changes with every change. Empty: nothing was written, only validated.
    #[serde(skip)]
    pub etag: String,
}

/// A time in which an experiment compared the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iteration {
    /// From 1.
    pub number: u32,
    /// One for each arm, in their order.
    pub weights: Vec<u32>,
    /// Millionths.
    pub allocation: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// `None`: it goes on, or is paused.
    pub ended_at: Option<Timestamp>,
}

/// An experiment to be, a draft.
#[derive(Debug, Clone)]
pub struct NewExperiment {
    /// Its key.
    pub key: key::Experiment,
    /// The flag.
    pub flag: key::Flag,
    /// What people know of it.
    pub metadata: Metadata,
    /// What it compares, unchecked.
    pub design: draft::Experiment,
    /// Whether what is odd about it is refused as if it were wrong.
    pub strict: bool,
}

/// What to change of an experiment, unchecked. `None`: leave it.
#[derive(Debug, Clone, Default)]
pub struct ExperimentPatch {
    /// A name.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// What is expected.
    pub hypothesis: Option<String>,
    /// Whose it is.
    pub owner: Option<String>,
    /// What decides; `Some(None)`: nothing.
    pub primary_metric: Option<Option<Metric>>,
    /// What must not become worse.
    pub guardrail_metrics: Option<Vec<Metric>>,
    /// All arms.
    pub arms: Option<Vec<draft::Arm>>,
    /// The whole audience.
    pub audience: Option<Vec<draft::Condition>>,
    /// Millionths.
    pub allocation: Option<u32>,
    /// The unit; `Some(None)`: the layer's, or the targeting key.
    pub attribute: Option<Option<String>>,
    /// Whether assignments are stored.
    pub sticky: Option<bool>,
    /// The layer; `Some("")`: none.
    pub layer: Option<String>,
    /// Millionths of the layer.
    pub layer_share: Option<u32>,
    /// Where it stands; `Some(None)`: after all rules.
    pub before_rule: Option<Option<String>>,
    /// Whether what is odd about it is refused as if it were wrong.
    pub strict: bool,
}

/// What becomes of an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It runs.
    Start,
    /// It is not asked for now.
    Pause,
    /// It runs again.
    Resume,
    /// It is over.
    Stop {
        /// Who won. `None`: nobody.
        winner: Option<key::Variant>,
        /// Whether the winner is to be what the flag serves by default in this environment, from the same revision on.
        make_default: bool,
    },
}

/// Which experiments of an environment to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExperimentFilter<'a> {
    /// Only those on this flag.
    pub flag: Option<&'a key::Flag>,
    /// Only those that stand there.
    pub state: Option<State>,
}

impl Step {
    fn transition(&self) -> Transition {
        match self {
            Self::Start => Transition::Start,
            Self::Pause => Transition::Pause,
            Self::Resume => Transition::Resume,
            Self::Stop { .. } => Transition::Stop,
        }
    }
}

impl Versioned for Experiment {
    fn forget_etag(&mut self) {
        self.etag.clear();
    }
}

impl Store {
    /// Creates an experiment, a draft: no answer depends on it.
    pub async fn create_experiment(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        new: NewExperiment,
        respond: impl FnOnce(&Written<Experiment>) -> Vec<u8>,
    ) -> Result<Outcome<Experiment>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            create::create(transaction, mutation, at, new).await
        })
        .await
    }

    /// Changes an experiment.
    pub async fn update_experiment(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        experiment: &key::Experiment,
        patch: ExperimentPatch,
        etag: &str,
        respond: impl FnOnce(&Written<Experiment>) -> Vec<u8>,
    ) -> Result<Outcome<Experiment>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            update::update(transaction, mutation, at, experiment, patch, etag).await
        })
        .await
    }

    /// Starts, pauses, resumes or stops an experiment.
    pub async fn step_experiment(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        experiment: &key::Experiment,
        step: Step,
        etag: &str,
        respond: impl FnOnce(&Written<Experiment>) -> Vec<u8>,
    ) -> Result<Outcome<Experiment>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            transition::step(transaction, mutation, at, experiment, step, etag).await
        })
        .await
    }

    /// Reads an experiment.
    pub async fn get_experiment(&self, at: Address<'_>, experiment: &key::Experiment) -> Result<Experiment, Error> {
        self.get_environment(at).await?;
        let client = self.reader().await?;
        let query: pipeline::Query<'_> = (
            rows::FIND,
            &[&at.project.as_str(), &at.environment.as_str(), &experiment.as_str()],
        );
        Ok(rows::found(&pipeline::one(&*client, query).await?, experiment)?.experiment)
    }

    /// Lists the experiments of an environment by key.
    pub async fn list_experiments(
        &self,
        at: Address<'_>,
        filter: ExperimentFilter<'_>,
        page: &PageRequest,
    ) -> Result<Page<Experiment>, Error> {
        self.get_environment(at).await?;
        let client = self.reader().await?;
        let ExperimentFilter { flag, state } = filter;
        let list: pipeline::Query<'_> = (
            LIST,
            &[
                &at.project.as_str(),
                &at.environment.as_str(),
                &page.after,
                &page.limit(),
                &flag.map(key::Flag::as_str),
                &state.map(State::name),
            ],
        );
        let found = pipeline::one(&*client, list).await?;
        let listed = found.iter().map(|row| Ok(rows::from_row(row)?.experiment));
        Ok(
            page.page(listed.collect::<Result<_, Error>>()?, |experiment: &Experiment| {
                experiment.key.to_string()
            }),
        )
    }
}

/// That there is no such experiment.
fn unknown(experiment: &key::Experiment) -> Error {
    Error::not_found(Entity::Experiment, experiment)
}
