//! What holds of evaluation whatever the flags and segments and whoever asks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on fails; the numbers are worth seeing"
)]

mod accepted;
mod circles;
mod experiments;
mod explained;
mod generate;
mod reference;
mod shares;
mod snapshots;
mod warnings;
mod world;

use halyard::domain::context::{Attribute, Context};
use halyard::domain::form::{self, Kind};
use halyard::evaluate::{Snapshot, key_chunk};
use proptest::prelude::*;
use reference::Outcome;
use world::{World, item};

/// The answers of every flag, by key.
fn answers(world: &World, context: &Context) -> Vec<(String, Outcome)> {
    let snapshot = world.snapshot();
    let flags = snapshot.flags();
    flags
        .map(|flag| (flag.key().to_owned(), flag.evaluate(context, &snapshot).into()))
        .collect()
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

/// Boxed: six of them in one test would not fit on the stack of its thread.
fn any_form() -> BoxedStrategy<Vec<u8>> {
    let any = prop_oneof![
        any::<Vec<u8>>(),
        generate::definition("f").prop_flat_map(|definition| damaged(form::write_definition(&definition))),
        generate::configuration(vec!["g"])
            .prop_flat_map(|configuration| damaged(form::write_configuration(&configuration))),
        generate::segment().prop_flat_map(|segment| damaged(form::write_segment(&segment.configuration))),
        generate::segment().prop_flat_map(|segment| {
            let keys: Vec<_> = segment.keys.iter().map(String::as_str).collect();
            damaged(form::write_keys(&keys))
        }),
        Just(experiments::form()).prop_flat_map(damaged),
    ];
    any.boxed()
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
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn answers_are_those_of_the_plain_evaluator(
        world in generate::world(),
        contexts in prop::collection::vec(generate::context(), 4),
    ) {
        for context in contexts {
            for (flag, answer) in answers(&world, &context) {
                let expected = reference::evaluate(&world, &flag, &context);
                prop_assert_eq!(answer, expected, "{}", flag);
            }
        }
    }
}

proptest! {
    #[test]
    fn the_same_flag_and_context_have_the_same_answer(world in generate::world(), context in generate::context()) {
        prop_assert_eq!(answers(&world, &context), answers(&world.clone(), &context.clone()));
    }

    #[test]
    fn any_bytes_make_a_flag_that_answers(
        definition in any_form(),
        configuration in any_form(),
        segment in any_form(),
        chunk in any_form(),
        experiment in any_form(),
        context in any_context(),
    ) {
        let mut snapshot = Snapshot::default();
        snapshot.put(&item(Kind::Experiment, "f/x"), &experiment);
        snapshot.put(&item(Kind::SegmentKeys, "s/0"), &chunk);
        snapshot.put(&item(Kind::SegmentConfiguration, "s"), &segment);
        snapshot.put(&item(Kind::FlagConfiguration, "f"), &configuration);
        prop_assert!(snapshot.get("f").is_none());
        snapshot.put(&item(Kind::FlagDefinition, "f"), &definition);
        let flag = snapshot.get("f").unwrap();
        let answer = flag.evaluate(&context, &snapshot);
        prop_assert!(answer.variant.is_none() || form::read_definition(&definition).is_ok());
        let asking = generate::asking_about("s");
        snapshot.put(&item(Kind::FlagDefinition, "g"), &form::write_definition(&asking.definition));
        snapshot.put(&item(Kind::FlagConfiguration, "g"), &form::write_configuration(&asking.configuration.unwrap()));
        let flag = snapshot.get("g").unwrap();
        let answer = flag.evaluate(&context, &snapshot);
        prop_assert!(answer.rule.is_none() || form::read_segment(&segment).is_ok());
    }

    #[test]
    fn a_definition_is_read_as_it_was_written(definition in generate::definition("f")) {
        let read = form::read_definition(&form::write_definition(&definition));
        prop_assert_eq!(read.ok(), Some(definition));
    }

    #[test]
    fn a_configuration_is_read_as_it_was_written(configuration in generate::configuration(vec!["g"])) {
        let form = form::write_configuration(&configuration);
        let read = form::read_configuration(&form);
        prop_assert_eq!(read.ok(), Some(configuration));
    }

    #[test]
    fn a_segment_is_read_as_it_was_written(segment in generate::segment()) {
        let form = form::write_segment(&segment.configuration);
        prop_assert_eq!(form::read_segment(&form).ok(), Some(segment.configuration));
    }

    #[test]
    fn a_chunk_of_keys_is_read_as_it_was_written(keys in any::<Vec<String>>()) {
        let form = form::write_keys(&keys.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert_eq!(form::read_keys(&form).ok(), Some(keys));
    }

    #[test]
    fn the_chunk_of_a_key_is_that_of_the_documented_formula(key in any::<String>(), power in 0..32_u32) {
        let chunks = 1 << power;
        let chunk = key_chunk(&key, chunks);
        prop_assert!(chunk < chunks);
        prop_assert_eq!(u64::from(chunk), reference::chunk(&key, chunks));
    }

    #[test]
    fn many_keys_are_listed_however_they_are_cut(
        keys in prop::collection::hash_set("[a-z0-9ø-]{1,12}", 0..200),
        others in prop::collection::vec("[a-z0-9ø-]{1,3}", 20),
        power in 0..6_u32,
    ) {
        let world = generate::listing(keys.iter().cloned().collect(), 1 << power);
        let snapshot = world.snapshot();
        let flag = snapshot.get("f").unwrap();
        for key in keys.iter().chain(&others) {
            let context = Context::new(key.clone(), std::iter::empty().collect());
            let answer = flag.evaluate(&context, &snapshot);
            prop_assert_eq!(answer.rule.is_some(), keys.contains(key), "{}", key);
        }
    }
}
