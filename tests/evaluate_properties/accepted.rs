//! What is accepted when it is written makes sense when it is loaded: the check and the compiler agree. Half of what the
//! generators make is accepted; if it were much less, proptest would give up.

use std::collections::{HashMap, HashSet};

use halyard::domain::check::{self, SegmentSurroundings, Surroundings};
use halyard::domain::draft;
use halyard::domain::flag::Definition;
use halyard::domain::form::{self, Kind};
use halyard::domain::graph::Graph;
use halyard::evaluate::Snapshot;
use proptest::prelude::*;

use crate::generate;
use crate::world::item;

/// What the generators name.
const SEGMENTS: [&str; 4] = ["s", "t", "u", "w"];

fn compiles(kind: Kind, key: &str, form: &[u8], definition: Option<&Definition>) -> bool {
    let mut snapshot = Snapshot::default();
    if let Some(definition) = definition {
        snapshot.put(&item(Kind::FlagDefinition, key), &form::write_definition(definition));
    }
    let id = item(kind, key);
    snapshot.put(&id, form);
    snapshot.malformed(&id).is_none()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn an_accepted_definition_compiles(definition in generate::definition("f")) {
        let accepted = check::definition(&draft::Definition::from(&definition));
        prop_assume!(accepted.is_ok());
        let accepted = accepted.unwrap();
        let form = form::write_definition(&accepted);
        prop_assert!(compiles(Kind::FlagDefinition, "f", &form, None), "{:?}", accepted);
    }

    #[test]
    fn an_accepted_configuration_compiles(
        definition in generate::definition("f"),
        other in generate::definition("g"),
        configuration in generate::configuration(vec!["g"]),
    ) {
        let around = Surroundings {
            flag: &definition,
            flags: &HashMap::from([("g".to_owned(), other)]),
            prerequisites: &Graph::new(),
            segments: &SEGMENTS.map(str::to_owned).into(),
        };
        prop_assume!(check::definition(&draft::Definition::from(&definition)).is_ok());
        let checked = check::configuration(&(&configuration).into(), &around);
        prop_assume!(checked.is_ok());
        let accepted = checked.unwrap().value;
        let form = form::write_configuration(&accepted);
        prop_assert!(compiles(Kind::FlagConfiguration, "f", &form, Some(&definition)), "{:?}", accepted);
    }

    #[test]
    fn an_accepted_segment_compiles(segment in generate::segment()) {
        let segments: HashSet<_> = SEGMENTS.map(str::to_owned).into();

        let around = SegmentSurroundings { key: "v", segments: &segments, parts: &Graph::new() };
        let checked = check::segment(&(&segment.configuration).into(), &around);
        prop_assume!(checked.is_ok());
        let accepted = checked.unwrap().value;
        let form = form::write_segment(&accepted);
        prop_assert!(compiles(Kind::SegmentConfiguration, "v", &form, None), "{:?}", accepted);
    }
}
