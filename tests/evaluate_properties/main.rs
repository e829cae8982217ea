//! What holds of evaluation whatever the flags and whoever asks.

mod generate;
mod reference;
mod shares;
mod snapshots;

use std::sync::Arc;

use halyard::domain::context::{Attribute, Context};
use halyard::domain::flag::{Configuration, Definition};
use halyard::domain::form::{self, ItemId, Kind};
use halyard::evaluate::Snapshot;
use proptest::prelude::*;
use reference::Outcome;

/// The item of a flag.
fn item(kind: Kind, key: &str) -> ItemId {
    ItemId {
        kind,
        key: Arc::from(key),
    }
}

/// The answer of the only flag, `f`.
fn answer(definition: &Definition, configuration: Option<&Configuration>, context: &Context) -> Option<Outcome> {
    let mut snapshot = Snapshot::default();
    let form = form::write_definition(definition);
    snapshot.put(&item(Kind::FlagDefinition, "f"), &form);
    if let Some(configuration) = configuration {
        let form = form::write_configuration(configuration);
        snapshot.put(&item(Kind::FlagConfiguration, "f"), &form);
    }
    snapshot.get("f").map(|flag| flag.evaluate(context).into())
}

/// A form with a few bytes of it replaced, and possibly its end cut off.
fn damaged(form: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let replaced = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let kept = prop_oneof![2 => Just(form.len()), 1 => 0..=form.len()];
    (Just(form), replaced, kept).prop_map(|(mut form, replaced, kept)| {
        for (at, byte) in replaced {
            let at = at.index(form.len());
            form[at] = byte;
        }
        form.truncate(kept);
        form
    })
}

fn any_form() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<Vec<u8>>(),
        generate::definition("f").prop_flat_map(|definition| damaged(form::write_definition(&definition))),
        generate::configuration().prop_flat_map(|configuration| damaged(form::write_configuration(&configuration))),
    ]
}

fn any_context() -> impl Strategy<Value = Context> {
    let number =
        prop::num::f64::ANY.prop_map(|number| [("x".to_owned(), Attribute::Number(number))].into_iter().collect());
    prop_oneof![
        generate::context(),
        (any::<String>(), number).prop_map(|(key, attributes)| Context::new(key, attributes)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn answers_are_those_of_the_plain_evaluator(
        definition in generate::definition("f"),
        configuration in prop::option::weighted(0.95, generate::configuration()),
        contexts in prop::collection::vec(generate::context(), 8),
    ) {
        for context in contexts {
            let expected = reference::evaluate(&definition, configuration.as_ref(), &context);
            prop_assert_eq!(answer(&definition, configuration.as_ref(), &context), Some(expected));
        }
    }
}

proptest! {
    #[test]
    fn the_same_flag_and_context_have_the_same_answer(
        definition in generate::definition("f"),
        configuration in generate::configuration(),
        context in generate::context(),
    ) {
        let first = answer(&definition, Some(&configuration), &context);
        let second = answer(&definition.clone(), Some(&configuration.clone()), &context.clone());
        prop_assert_eq!(first, second);
    }

    #[test]
    fn any_bytes_make_a_flag_that_answers(
        definition in any_form(),
        configuration in any_form(),
        context in any_context(),
    ) {
        let mut snapshot = Snapshot::default();
        snapshot.put(&item(Kind::FlagConfiguration, "f"), &configuration);
        prop_assert!(snapshot.get("f").is_none());
        snapshot.put(&item(Kind::FlagDefinition, "f"), &definition);
        let flag = snapshot.get("f");
        prop_assert!(flag.is_some_and(|flag| flag.evaluate(&context).variant.is_none() || form::read_definition(&definition).is_ok()));
    }

    #[test]
    fn a_definition_is_read_as_it_was_written(definition in generate::definition("f")) {
        let read = form::read_definition(&form::write_definition(&definition));
        prop_assert_eq!(read.ok(), Some(definition));
    }

    #[test]
    fn a_configuration_is_read_as_it_was_written(configuration in generate::configuration()) {
        let form = form::write_configuration(&configuration);
        let read = form::read_configuration(&form);
        prop_assert_eq!(read.ok(), Some(configuration));
    }
}
