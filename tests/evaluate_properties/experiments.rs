//! Experiments: who takes part in one says nothing of who takes part in another, layers exclude exactly, and what is known of a unit
//! stays.
//!
//! The units are the same in every run, so these tests either always pass or never; the bounds are those of chance.

use std::collections::HashMap;

use halyard::domain::context::{Attribute, Context, Object};
use halyard::domain::experiment::{self, LayerPart, Running, WHOLE};
use halyard::domain::form::{self, Kind};
use halyard::domain::key;
use halyard::domain::rule::Weighted;
use halyard::evaluate::explanation::ExperimentOutcome;
use halyard::evaluate::{Answer, Assigned, Assignment, Experiment, Freshness, Need, Reason, Snapshot};
use uuid::Uuid;

use super::item;

const UNITS: u32 = 200_000;

fn running(flag: &str, number: u128) -> Running {
    let arm = |variant: &str| Weighted {
        variant: variant.parse().unwrap(),
        weight: 1,
    };
    Running {
        flag: flag.parse().unwrap(),
        // Any will do; these are what they are so that every run hashes the same.
        salt: Uuid::from_u128(0x6b1f_9e2c_0d44_4a57_9c3e_0000_0000_0000 + number),
        iteration: 1,
        arms: ["a", "b", "c", "d"].map(arm).into(),
        audience: Vec::new(),
        allocation: WHOLE,
        largest_allocation: WHOLE,
        attribute: None,
        sticky: false,
        layer: None,
        before_rule: None,
    }
}

/// The form of an experiment.
pub fn form() -> Vec<u8> {
    form::write_experiment(&running("f", 1))
}

/// A flag that is on and has nothing but its default, `off`.
fn put_flag(snapshot: &mut Snapshot, flag: &str, rules: &str) {
    let variants = ["off", "a", "b", "c", "d"].map(|key| format!(r#"{{"key":"{key}","value":{{"string":"{key}"}}}}"#));
    let definition = format!(
        r#"{{"format":1,"key":"{flag}","type":"string","variants":[{}],"off_variant":"off","client_visible":true}}"#,
        variants.join(",")
    );
    snapshot.put(&item(Kind::FlagDefinition, flag), definition.as_bytes());
    let configuration = format!(r#"{{"format":1,"enabled":true,"rules":[{rules}]}}"#);
    snapshot.put(&item(Kind::FlagConfiguration, flag), configuration.as_bytes());
}

fn put(snapshot: &mut Snapshot, experiment: &str, running: &Running) {
    let id = experiment::item(running.flag.as_str(), experiment);
    snapshot.put(&item(Kind::Experiment, &id), &form::write_experiment(running));
}

fn of(experiments: &[(&str, &Running)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (key, running) in experiments {
        put_flag(&mut snapshot, running.flag.as_str(), "");
        put(&mut snapshot, key, running);
    }
    snapshot
}

fn unit(number: u32) -> Context {
    Context::new(format!("user-{number}"), Object::default())
}

/// The arm of each unit, from 1; 0: it does not take part.
fn arms(running: &Running) -> Vec<usize> {
    let snapshot = of(&[("x", running)]);
    let flag = snapshot.get(running.flag.as_str()).unwrap();
    let arm = |number| {
        let context = unit(number);
        let answer = flag.evaluate(&context, &snapshot);
        let variant = answer.variant.unwrap().key.as_str();
        ["off", "a", "b", "c", "d"]
            .iter()
            .position(|key| *key == variant)
            .unwrap()
    };
    (0..UNITS).map(arm).collect()
}

/// Chi-squared of the table of two facts about each unit, with its degrees of freedom.
fn dependence(one: &[usize], other: &[usize]) -> (f64, usize) {
    let mut cells: HashMap<(usize, usize), f64> = HashMap::new();
    let (mut rows, mut columns): (HashMap<_, f64>, HashMap<_, f64>) = (HashMap::new(), HashMap::new());
    for (one, other) in one.iter().zip(other) {
        *cells.entry((*one, *other)).or_default() += 1.0;
        *rows.entry(*one).or_default() += 1.0;
        *columns.entry(*other).or_default() += 1.0;
    }
    let units = f64::from(UNITS);
    let mut chi_squared = 0.0;
    for (row, in_row) in &rows {
        for (column, in_column) in &columns {
            let expected = in_row * in_column / units;
            let found = cells.get(&(*row, *column)).copied().unwrap_or_default();
            chi_squared += (found - expected).powi(2) / expected;
        }
    }
    (chi_squared, (rows.len() - 1) * (columns.len() - 1))
}

/// The bounds are exceeded by chance once in 10 000, by the degrees of freedom that occur here.
fn independent(what: &str, one: &[usize], other: &[usize]) {
    let (chi_squared, freedom) = dependence(one, other);
    let bound = match freedom {
        1 => 15.1,
        3 => 21.1,
        9 => 33.7,
        other => panic!("{what}: {other} degrees of freedom"),
    };
    println!("{what}: chi-squared {chi_squared:.1} of {freedom}");
    assert!(
        chi_squared < bound,
        "{what}: {chi_squared} with {freedom} degrees of freedom"
    );
}

fn with_allocation(running: &Running, allocation: u32) -> Running {
    Running {
        allocation,
        largest_allocation: allocation,
        ..running.clone()
    }
}

fn taking_part(arms: &[usize]) -> Vec<usize> {
    arms.iter().map(|arm| usize::from(*arm > 0)).collect()
}

#[test]
fn arms_allocations_and_layers_say_nothing_of_each_other() {
    let (one, other) = (running("f", 1), running("g", 2));
    let (arms_of_one, arms_of_other) = (arms(&one), arms(&other));
    independent("arms of two experiments", &arms_of_one, &arms_of_other);
    let third = |running: &Running| taking_part(&arms(&with_allocation(running, 333_333)));
    let (third_of_one, third_of_other) = (third(&one), third(&other));
    independent("arms and allocation of one experiment", &arms_of_one, &third_of_one);
    independent("arms of one and allocation of another", &arms_of_one, &third_of_other);
    independent("allocations of two experiments", &third_of_one, &third_of_other);
    let layered = |number| Running {
        layer: Some(LayerPart {
            salt: Uuid::from_u128(number),
            start: 0,
            end: 500_000,
        }),
        ..one.clone()
    };
    let half = taking_part(&arms(&layered(77)));
    independent("arms and layer", &arms_of_one, &half);
    independent("allocation and layer", &third_of_one, &half);
    independent("two layers", &half, &taking_part(&arms(&layered(78))));
    // What a split of a flag of the same name would do.
    let split = |number: u32| {
        let hash = halyard::evaluate::hash("f", &Attribute::String(format!("user-{number}"))).unwrap();
        halyard::evaluate::bucket(hash, 4) as usize
    };
    independent(
        "arms and the flag's split",
        &arms_of_one,
        &(0..UNITS).map(split).collect::<Vec<_>>(),
    );
}

#[test]
fn shares_are_as_large_as_they_were_meant() {
    let mut uneven = with_allocation(&running("f", 3), 200_000);
    for (arm, weight) in uneven.arms.iter_mut().zip([1, 2, 3, 4]) {
        arm.weight = weight;
    }
    let arms = arms(&uneven);
    for (arm, share) in [(0, 0.8), (1, 0.02), (2, 0.04), (3, 0.06), (4, 0.08)] {
        let (units, count) = (f64::from(UNITS), arms.iter().filter(|found| **found == arm).count());
        let (expected, deviation) = (units * share, (units * share * (1.0 - share)).sqrt());
        let off = (f64::from(u32::try_from(count).unwrap()) - expected).abs();
        assert!(off < 4.0 * deviation, "arm {arm}: {count} for {expected}");
    }
}

#[test]
fn experiments_of_a_layer_share_out_every_unit_once() {
    let bounds = [0, 200_000, 500_000, WHOLE];
    let parts: Vec<_> = bounds
        .windows(2)
        .zip(["f", "g", "h"])
        .map(|(bounds, flag)| Running {
            layer: Some(LayerPart {
                salt: Uuid::from_u128(7),
                start: bounds[0],
                end: bounds[1],
            }),
            ..running(flag, u128::from(bounds[0]))
        })
        .collect();
    let parts: Vec<_> = parts.iter().map(|running| taking_part(&arms(running))).collect();
    for number in 0..UNITS as usize {
        let taken: usize = parts.iter().map(|part| part[number]).sum();
        assert_eq!(
            taken, 1,
            "user-{number} takes part in {taken} of three that fill their layer"
        );
    }
    for (part, share) in parts.iter().zip([0.2, 0.3, 0.5]) {
        let units = f64::from(UNITS);
        let count = f64::from(u32::try_from(part.iter().sum::<usize>()).unwrap());
        assert!(
            (count - units * share).abs() < 4.0 * (units * share * (1.0 - share)).sqrt(),
            "{count} for {share}"
        );
    }
}

#[test]
fn an_experiment_is_asked_where_it_stands() {
    let rule = |key: &str, country: &str, variant: &str| {
        format!(
            r#"{{"key":"{key}","conditions":[{{"attribute":"country","operator":"equals","values":["{country}"]}}],"serve":{{"variant":"{variant}"}}}}"#
        )
    };
    let mut snapshot = Snapshot::default();
    put_flag(
        &mut snapshot,
        "f",
        &[rule("first", "NO", "off"), rule("second", "SE", "off")].join(","),
    );
    let answer = |snapshot: &Snapshot, country: &str| {
        let attributes = [("country".to_owned(), Attribute::String(country.to_owned()))];
        let context = Context::new("u".to_owned(), attributes.into_iter().collect());
        let flag = snapshot.get("f").unwrap();
        let (answer, explanation) = flag.explain(&context, snapshot);
        assert_eq!(answer, flag.evaluate(&context, snapshot), "explained");
        let asked = explanation
            .experiments
            .iter()
            .map(|told| (told.rules_before, told.outcome));
        (answer.reason, asked.collect::<Vec<_>>())
    };
    let served = |rules| vec![(rules, ExperimentOutcome::Served)];
    let check = |snapshot: &Snapshot, expected: [(Reason, Vec<(usize, ExperimentOutcome)>); 3]| {
        assert_eq!(["NO", "SE", "DK"].map(|country| answer(snapshot, country)), expected);
    };
    check(
        &snapshot,
        [
            (Reason::TargetingMatch, vec![]),
            (Reason::TargetingMatch, vec![]),
            (Reason::Default, vec![]),
        ],
    );
    let mut running = running("f", 1);
    put(&mut snapshot, "x", &running);
    let after_all = [
        (Reason::TargetingMatch, vec![]),
        (Reason::TargetingMatch, vec![]),
        (Reason::Experiment, served(2)),
    ];
    check(&snapshot, after_all.clone());
    running.before_rule = Some("second".parse().unwrap());
    put(&mut snapshot, "x", &running);
    check(
        &snapshot,
        [
            (Reason::TargetingMatch, vec![]),
            (Reason::Experiment, served(1)),
            (Reason::Experiment, served(1)),
        ],
    );
    running.before_rule = Some("first".parse().unwrap());
    put(&mut snapshot, "x", &running);
    check(&snapshot, [(); 3].map(|()| (Reason::Experiment, served(0))));
    running.before_rule = Some("gone".parse().unwrap());
    put(&mut snapshot, "x", &running);
    check(&snapshot, after_all);
    snapshot.delete(&item(Kind::Experiment, "f/x"));
    assert_eq!(answer(&snapshot, "DK"), (Reason::Default, vec![]));
}

#[test]
fn who_does_not_take_part_is_answered_as_if_it_were_not_there() {
    let mut experiment = running("f", 1);
    experiment.audience = vec![halyard::domain::rule::Condition {
        attribute: "country".to_owned(),
        operator: halyard::domain::rule::Operator::Equals,
        values: vec![halyard::domain::rule::Operand::String("NO".to_owned())],
        negated: false,
    }];
    let snapshot = of(&[("x", &experiment)]);
    let told = |context: &Context| {
        let (answer, explanation) = snapshot.get("f").unwrap().explain(context, &snapshot);
        assert_eq!((answer.reason, answer.experiment), (Reason::Default, None));
        explanation.experiments[0].outcome
    };
    assert_eq!(told(&unit(1)), ExperimentOutcome::OutsideAudience);
    assert_eq!(told(&Context::default()), ExperimentOutcome::NoUnit);
    let nobody = with_allocation(&running("f", 1), 1);
    let snapshot = of(&[("x", &nobody)]);
    let (_, explanation) = snapshot.get("f").unwrap().explain(&unit(1), &snapshot);
    assert_eq!(explanation.experiments[0].outcome, ExperimentOutcome::OutsideAllocation);
}

/// Asks the flag with these assignments known.
fn knowing<'a>(snapshot: &'a Snapshot, context: &Context, known: &Assigned) -> Result<Answer<'a>, Box<Need>> {
    let known = |experiment: &Experiment, unit: &str| {
        assert_eq!((experiment.key(), unit), ("x", "user-1"));
        known.clone()
    };
    let flag = snapshot.get("f").unwrap();
    flag.evaluate_knowing(context, snapshot, Freshness::ANY, &known)
}

#[test]
fn what_is_stored_of_a_unit_stays() {
    let mut sticky = Running {
        sticky: true,
        ..running("f", 1)
    };
    let context = unit(1);
    let part = |answer: Answer<'_>| {
        let part = answer.experiment.unwrap();
        (answer.variant.unwrap().key.to_string(), part.iteration, part.assignment)
    };
    let snapshot = of(&[("x", &sticky)]);
    let need = knowing(&snapshot, &context, &Assigned::Unknown).unwrap_err();
    let hashed = need.arm.clone().unwrap();
    assert_eq!((need.experiment.key(), need.unit.as_str()), ("x", "user-1"));
    let unstored = knowing(&snapshot, &context, &Assigned::Unreachable).unwrap();
    assert_eq!(part(unstored), (hashed.to_string(), 1, Assignment::Unstored));

    let kept: key::Variant = if hashed.as_str() == "d" { "c" } else { "d" }.parse().unwrap();
    let stored = Assigned::Arm {
        arm: kept.clone(),
        iteration: 1,
    };
    let stays = (kept.to_string(), 1, Assignment::Stored);
    assert_eq!(part(knowing(&snapshot, &context, &stored).unwrap()), stays);
    sticky.iteration = 2;
    sticky.arms[0].weight = 1_000_000;
    sticky.allocation = 1;
    let changed = of(&[("x", &sticky)]);
    assert_eq!(part(knowing(&changed, &context, &stored).unwrap()), stays);
    let need = knowing(&changed, &context, &Assigned::Unknown).unwrap_err();
    assert_eq!(need.arm, None, "outside of the allocation nothing new is stored");
    for nothing in [Assigned::Nothing, Assigned::Unreachable] {
        let answer = knowing(&changed, &context, &nothing).unwrap();
        assert_eq!((answer.reason, answer.experiment), (Reason::Default, None));
    }
    let unassigned = |snapshot: &Snapshot| {
        let flag = snapshot.get("f").unwrap();
        let answer = flag.evaluate_unassigned(&context, snapshot, Freshness::ANY);
        answer.map(|answer| answer.reason)
    };
    assert_eq!(unassigned(&changed), None, "what is stored may have a say");
    // Never with a larger allocation than this: there is nothing to be found out.
    sticky.largest_allocation = 1;
    let never = of(&[("x", &sticky)]);
    assert_eq!(
        knowing(&never, &context, &Assigned::Unknown).unwrap().reason,
        Reason::Default
    );
    assert_eq!(unassigned(&never), Some(Reason::Default));
}

#[test]
fn a_prerequisite_asks_for_its_assignment_too() {
    let sticky = Running {
        sticky: true,
        ..running("f", 1)
    };
    let mut snapshot = of(&[("x", &sticky)]);
    put_flag(&mut snapshot, "g", "");
    let needs =
        r#"{"format":1,"enabled":true,"prerequisites":[{"flag":"f","variants":["b"]}],"default":{"variant":"a"}}"#;
    snapshot.put(&item(Kind::FlagConfiguration, "g"), needs.as_bytes());
    let ask = |known: Assigned| {
        let flag = snapshot.get("g").unwrap();
        flag.evaluate_knowing(&unit(1), &snapshot, Freshness::ANY, &|_: &Experiment, _: &str| {
            known.clone()
        })
    };
    assert_eq!(ask(Assigned::Unknown).unwrap_err().experiment.key(), "x");
    let arm = |arm: &str| Assigned::Arm {
        arm: arm.parse().unwrap(),
        iteration: 1,
    };
    assert_eq!(ask(arm("b")).unwrap().reason, Reason::Static);
    assert_eq!(ask(arm("a")).unwrap().reason, Reason::PrerequisiteFailed);
}

#[test]
fn one_that_makes_no_sense_harms_nothing_else() {
    let mut unknown_arm = running("f", 1);
    unknown_arm.arms[0].variant = "unknown".parse().unwrap();
    let mut snapshot = of(&[("fine", &running("f", 2)), ("odd", &unknown_arm)]);
    snapshot.put(&item(Kind::Experiment, "f/damaged"), b"{");
    put(&mut snapshot, "other", &running("g", 3));
    snapshot.put(
        &item(Kind::Experiment, "f/other"),
        &form::write_experiment(&running("g", 3)),
    );
    for (key, malformed) in [
        ("fine", false),
        ("odd", true),
        ("damaged", true),
        ("other", true),
        ("gone", false),
    ] {
        let id = item(Kind::Experiment, &format!("f/{key}"));
        assert_eq!(snapshot.malformed(&id).is_some(), malformed, "{key}");
    }
    let context = unit(1);
    let answer = snapshot.get("f").unwrap().evaluate(&context, &snapshot);
    assert_eq!(answer.experiment.unwrap().experiment.key(), "fine");
    assert!(snapshot.get("f").unwrap().malformed().is_none());
    assert_eq!(snapshot.experiment("fine").unwrap().0.key(), "f");
    assert!(snapshot.experiment("fin").is_none() && snapshot.experiment("odd").is_none());
}

#[test]
fn a_change_of_an_experiment_or_of_its_audience_touches_its_flag() {
    let mut asking = running("f", 1);
    asking.audience = vec![halyard::domain::rule::Condition {
        attribute: String::new(),
        operator: halyard::domain::rule::Operator::InSegment,
        values: vec![halyard::domain::rule::Operand::String("s".to_owned())],
        negated: false,
    }];
    let mut snapshot = of(&[("x", &asking)]);
    put_flag(&mut snapshot, "g", "");
    let touched = |snapshot: &Snapshot, kind, key: &str| snapshot.touched_by([item(kind, key)].iter()).len();
    assert_eq!(touched(&snapshot, Kind::SegmentConfiguration, "s"), 1);
    assert_eq!(touched(&snapshot, Kind::SegmentConfiguration, "other"), 0);
    let id = item(Kind::Experiment, "f/x");
    snapshot.delete(&id);
    assert_eq!(snapshot.touched_by([id].iter()), [std::sync::Arc::from("f")]);
    assert_eq!(touched(&snapshot, Kind::SegmentConfiguration, "s"), 0);
}
