//! Arbitrary stored forms and contexts: whatever they hold, evaluation neither panics nor goes on for ever, explains what it
//! answers, and does not depend on the order in which the items came.

#![no_main]

mod input;
mod mutate;

use halyard::domain::context::Context;
use halyard::evaluate::{Answer, Snapshot};
use input::{Input, Stored};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|bytes: &[u8]| {
    let Input { items, context } = Input::read(bytes);
    let snapshot = build(items.iter());
    let reversed = build(items.iter().rev());
    let answers = answers(&snapshot, &context);
    assert_eq!(
        answers,
        self::answers(&reversed, &context),
        "the order of the items makes a difference"
    );
    assert_eq!(
        answers,
        self::answers(&snapshot, &context),
        "a second time makes a difference"
    );
    let mut emptied = snapshot.clone();
    for (id, _) in &items {
        emptied.delete(id);
    }
    assert!(emptied.is_empty(), "what was deleted is still there");
});

fuzz_mutator!(|bytes: &mut [u8], length: usize, most: usize, seed: u32| { mutate::mutate(bytes, length, most, seed) });

fn build<'a>(items: impl Iterator<Item = &'a Stored>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (id, form) in items {
        snapshot.put(id, form);
    }
    snapshot
}

fn answers<'a>(snapshot: &'a Snapshot, context: &Context) -> Vec<Answer<'a>> {
    let answers = snapshot.flags().map(|flag| {
        let answer = flag.evaluate(context, snapshot);
        let (explained, _) = flag.explain(context, snapshot);
        assert_eq!(
            answer,
            explained,
            "{} is explained otherwise than it is answered",
            flag.key()
        );
        answer
    });
    answers.collect()
}
