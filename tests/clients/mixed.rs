//! What the mixed load reports, held against the database: nothing failed, and everything that was acknowledged is there, once.

use serde_json::Value;

use crate::load::Load;
use crate::replica::Installation;
use crate::support::cluster::Database;

/// The kinds of requests that it makes.
pub const KINDS: [&str; 5] = ["Evaluate", "EvaluateAll", "GetAssignment", "Track", "ToggleFlags"];
/// How many streams it keeps open.
const STREAMS: u64 = 25;

/// What the load counted.
pub struct Report(pub Value);

impl Report {
    /// Ends the load. What it complains of comes beside, so that it can be shown with the numbers.
    pub fn of(load: Load) -> (Self, Result<(), String>) {
        let (said, outcome) = load.ends("{");
        (Self(serde_json::from_str(&said).unwrap()), outcome)
    }

    pub fn count(&self, name: &str) -> u64 {
        number(&self.0["counts"][name])
    }

    pub fn codes(&self, kind: &str) -> impl Iterator<Item = (&str, u64)> {
        let codes = self.0["requests"][kind]["codes"].as_object();
        codes
            .into_iter()
            .flatten()
            .map(|(code, count)| (code.as_str(), number(count)))
    }

    fn changes(&self) -> u64 {
        number(&self.0["revision"]) - number(&self.0["first_revision"])
    }

    /// Whether the load itself could not run for a while, as on a machine that does other things.
    fn stood_still(&self) -> bool {
        self.0["standstills_s"]
            .as_array()
            .is_some_and(|times| !times.is_empty())
    }

    /// Every request was answered well; with so many replicas killed, only changes under way were tried again, and only streams of
    /// these broke off.
    pub fn nothing_failed(&self, killed: u64) {
        for kind in KINDS {
            let (mut answered, mut unasked) = (0, 0);
            for (code, count) in self.codes(kind) {
                match code {
                    "OK" => answered += count,
                    "MISSED" => unasked += count,
                    _ => panic!("{count} × {code} of {kind}: {}", self.0),
                }
            }
            // A load that did little shows little.
            assert!(answered > 9 * unasked, "{kind} was not asked often enough: {}", self.0);
        }
        assert_eq!(self.0["wrong"], 0, "{}", self.0);
        if !self.stood_still() {
            assert!(self.count("writes_tried_again") <= killed, "{}", self.0);
            assert!(self.count("streams_broken") <= killed * STREAMS, "{}", self.0);
        }
    }

    /// The changes, their audit entries, the units and the events that it counted are what is stored.
    pub async fn is_what_is_stored(&self, database: &Database, installation: &Installation) {
        let client = database.client().await;
        let stored = "
            select
                (select max(revision) from environment_heads) as revision,
                (select count(*) from audit_entries where action = 'flag_configuration.toggle') as toggles,
                (select count(*) from experiment_assignments) as assignments,
                (select count(*) from event_ids) as ids,
                (select count(*) from exposures) + (select count(*) from metric_events) as events";
        let row = client.query_one(stored, &[]).await.unwrap();
        let stored = |column| u64::try_from(row.get::<_, i64>(column)).unwrap();
        assert_eq!(stored("revision"), number(&self.0["revision"]));
        assert_eq!(stored("toggles"), self.changes());
        assert_eq!(
            (stored("ids"), stored("events")),
            (self.count("events"), self.count("events"))
        );
        let units = self.count("units");
        let not_stored = self.count("assignments_not_stored");
        assert!(
            (units - not_stored..=units).contains(&stored("assignments")),
            "{}",
            self.0
        );
        installation.run(&["audit", "verify"]).done();
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a count"))
}
