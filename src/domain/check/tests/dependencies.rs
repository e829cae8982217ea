//! Prerequisites: what may be named, cycles, and what they cost.

use super::*;
use crate::domain::draft::Prerequisite;
use crate::domain::limits;

fn on(flag: &str) -> Prerequisite {
    Prerequisite {
        flag: flag.to_owned(),
        variants: vec!["on".to_owned()],
    }
}

fn requiring(prerequisites: Vec<Prerequisite>) -> draft::Configuration {
    draft::Configuration {
        prerequisites,
        ..draft::Configuration::default()
    }
}

/// A world in which these flags are known and depend on each other so: `a: b c; b: c`.
fn world(text: &str) -> World {
    let mut world = World::new();
    for node in text.split(';') {
        let (from, to) = node.split_once(':').unwrap();
        let to: Vec<_> = to.split_whitespace().map(str::to_owned).collect();
        for key in to.iter().map(String::as_str).chain([from.trim()]) {
            world.flags.insert(key.to_owned(), flag(key));
        }
        world.prerequisites.set(from.trim(), to);
    }
    world
}

#[test]
fn every_violation_of_prerequisites_is_told() {
    let prerequisites = vec![
        on("g"),
        on("unknown"),
        on("no key"),
        on("f"),
        on("g"),
        Prerequisite {
            flag: "h".to_owned(),
            variants: vec![],
        },
        Prerequisite {
            flag: "i".to_owned(),
            variants: ["on", "maybe", "On", "on"].map(str::to_owned).into(),
        },
    ];
    let mut world = World::new();
    for key in ["h", "i"] {
        world.flags.insert(key.to_owned(), flag(key));
    }
    assert_eq!(
        told(world.check(&requiring(prerequisites))),
        [
            "prerequisites[3].flag: names the flag itself",
            "prerequisites[4].flag: names the same flag as prerequisites[0]; join them",
            "prerequisites[1].flag: names unknown, which is not a flag of the project, or is archived",
            "prerequisites[2].flag: must begin with one of the letters a to z or a digit, and hold only those, dots, \
             underscores and hyphens",
            "prerequisites[5].variants: is empty; name those of which the flag must serve one",
            "prerequisites[6].variants[1]: names maybe, which is not a variant of i",
            "prerequisites[6].variants[2]: must begin with one of the lower-case letters a to z or a digit, and hold only \
             those, dots, underscores and hyphens",
            "prerequisites[6].variants[3]: is there twice; name it once",
        ]
    );
}

#[test]
fn variants_of_unknown_flags_are_checked_as_far_as_can_be() {
    let prerequisite = Prerequisite {
        flag: "unknown".to_owned(),
        variants: ["anything", "NOT"].map(str::to_owned).into(),
    };
    assert_eq!(
        fields(World::new().check(&requiring(vec![prerequisite]))),
        ["prerequisites[0].flag", "prerequisites[0].variants[1]"]
    );
}

#[test]
fn cycles_are_told_with_the_way_that_closes_them() {
    let world = world("a: b; b: c x; c: f; x: ; d: f");
    assert_eq!(
        told(world.check(&requiring(vec![on("g"), on("a"), on("x"), on("d")]))),
        [
            "prerequisites[1].flag: closes a cycle: f → a → b → c → f",
            "prerequisites[3].flag: closes a cycle: f → d → f",
        ]
    );
    assert_eq!(
        fields(world.check(&requiring(vec![on("g"), on("x")]))),
        Vec::<String>::new()
    );
}

#[test]
fn what_the_flag_depended_on_before_does_not_count() {
    let world = world("f: a; a: b; b: ");
    assert_eq!(fields(world.check(&requiring(vec![on("b")]))), Vec::<String>::new());
}

#[test]
fn long_ways_are_told_by_their_ends() {
    let chain: Vec<_> = (0..40)
        .map(|n| format!("c{n}: {}", if n == 39 { "f".to_owned() } else { format!("c{}", n + 1) }))
        .collect();
    assert_eq!(
        told(world(&chain.join(";")).check(&requiring(vec![on("c0")]))),
        ["prerequisites[0].flag: closes a cycle: f → c0 → c1 → c2 → c3 → c4 → c5 → c6 → … → c37 → c38 → c39 → f"]
    );
}

#[test]
fn no_flag_may_ask_more_than_an_evaluation_may() {
    // Doubles with every step: `l2` asks 2, `l3` 6, `l4` 14, and `l7` 126.
    let doubling = "l7: l6 m6; m7: l6 m6; l6: l5 m5; m6: l5 m5; l5: l4 m4; m5: l4 m4; l4: l3 m3; m4: l3 m3; l3: l2 m2; \
                    m3: l2 m2; l2: l1 m1; m2: l1 m1";
    let check = |text: &str, prerequisites: &[&str], expected: &[&str]| {
        let world = world(&format!("{doubling}; {text}"));
        let prerequisites = prerequisites.iter().map(|key| on(key)).collect();
        assert_eq!(told(world.check(&requiring(prerequisites))), expected, "{text}");
    };
    // 127 each, itself included.
    check("x: ", &["l7", "m7"], &[]);
    check(
        "x: l7",
        &["l7", "m7", "x"],
        &["prerequisites: ask more than 256 flags, theirs included; name fewer"],
    );
    check("user: f g; g: l7", &["l7"], &[]);
    check(
        "user: f g; g: l7; other: user",
        &["l7"],
        &["prerequisites: make other, which depends on f, ask more than 256 flags; name fewer"],
    );
    // What was too much before does not become more.
    check("f: l7 m7 ; user: f g; g: l7; other: user", &["l7"], &[]);
}

#[test]
fn prerequisites_have_their_limit() {
    let mut world = World::new();
    let prerequisites: Vec<_> = (0..=limits::PREREQUISITES)
        .map(|n| {
            let key = format!("p{n}");
            world.flags.insert(key.clone(), flag(&key));
            on(&key)
        })
        .collect();
    assert_eq!(
        told(world.check(&requiring(prerequisites))),
        ["prerequisites: has more entries than the limit of 20"]
    );
}
