//! Splits give what their weights promise: the right number of people, always the same ones, independently of other flags.
//!
//! The people are the same in every run, so these tests either always pass or never; the bounds are those of chance.

use halyard::domain::context::Attribute;
use halyard::evaluate::{bucket, choose, hash};
use proptest::prelude::*;

/// The index of the share that someone falls into.
fn share(salt: &str, user: u32, weights: &[u32]) -> usize {
    let hash = hash(salt, &Attribute::String(format!("user-{user}"))).unwrap_or_default();
    choose(bucket(hash, weights.iter().sum()), weights.iter().copied()).unwrap_or(usize::MAX)
}

fn counts(salt: &str, users: u32, weights: &[u32]) -> Vec<u32> {
    let mut counts = vec![0; weights.len()];
    for user in 0..users {
        counts[share(salt, user, weights)] += 1;
    }
    counts
}

#[test]
fn shares_are_as_large_as_their_weights_say() {
    let check = |salt: &str, weights: &[u32]| {
        const USERS: u32 = 100_000;
        let total = f64::from(weights.iter().sum::<u32>());
        for (count, weight) in counts(salt, USERS, weights).into_iter().zip(weights) {
            let p = f64::from(*weight) / total;
            let expected = f64::from(USERS) * p;
            let deviation = (expected * (1.0 - p)).sqrt();
            let off = (f64::from(count) - expected).abs();
            assert!(
                off <= 4.0 * deviation,
                "{salt}, {weights:?}: {count} for {weight}, {off} off"
            );
        }
    };
    check("new-checkout", &[1, 1]);
    check("new-checkout", &[1, 99]);
    check("newCheckout", &[33_333, 33_333, 33_334]);
    check("", &[1, 2, 3, 4]);
    check("f", &[0, 1, 0, 9]);
    check("tiny", &[1, 9_999]);
    check("large", &[1 << 30, 1 << 29, (1 << 29) - 1]);
    check("ten", &[1; 10]);
}

const CELLS: usize = 4;

/// How far the shares of two flags are from having nothing to do with each other: chi-squared of a table of 4 × 4 cells, which has 9
/// degrees of freedom.
fn dependence(one: &[usize], other: &[usize]) -> f64 {
    let mut cells = [[0_u32; CELLS]; CELLS];
    for (one, other) in one.iter().zip(other) {
        cells[*one][*other] += 1;
    }
    let users = f64::from(cells.as_flattened().iter().sum::<u32>());
    let row = |n: usize| f64::from(cells[n].iter().sum::<u32>());
    let column = |n: usize| f64::from(cells.iter().map(|row| row[n]).sum::<u32>());
    let mut chi_squared = 0.0;
    for (n, m) in (0..CELLS).flat_map(|n| (0..CELLS).map(move |m| (n, m))) {
        let expected = row(n) * column(m) / users;
        chi_squared += (f64::from(cells[n][m]) - expected).powi(2) / expected;
    }
    chi_squared
}

fn everyone(salt: &str, users: u32) -> Vec<usize> {
    (0..users).map(|user| share(salt, user, &[1; CELLS])).collect()
}

/// Above 33.7 once in 10 000.
#[test]
fn where_someone_falls_in_one_flag_says_nothing_of_another() {
    let check = |one: &str, other: &str| {
        const USERS: u32 = 100_000;
        let chi_squared = dependence(&everyone(one, USERS), &everyone(other, USERS));
        assert!(chi_squared < 33.7, "{one} and {other}: {chi_squared}");
    };
    check("new-checkout", "old-checkout");
    check("a", "b");
    check("flag-1", "flag-2");
    check("flag-1", "flag-11");
    check("f", "f:");
    check("experiment", "experiment-holdout");
}

/// Of 435 pairs none is above 47.5, where one in 3 000 000 would be.
#[test]
fn any_two_salts_are_independent() {
    let salts = (0..10).flat_map(|n| [format!("flag-{n}"), format!("{n}"), "s".repeat(n + 1)]);
    let shares: Vec<_> = salts.map(|salt| (everyone(&salt, 20_000), salt)).collect();
    for (n, (one, salt)) in shares.iter().enumerate() {
        for (other, other_salt) in &shares[..n] {
            let chi_squared = dependence(one, other);
            assert!(chi_squared < 47.5, "{salt} and {other_salt}: {chi_squared}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn raising_the_first_weight_moves_nobody_out_of_it(
        hash in any::<u32>(),
        first in 1..1_000_000_u32,
        raise in 0..1_000_000_u32,
        others in prop::collection::vec(0..1_000_000_u32, 0..5),
    ) {
        let chosen = |first: u32| {
            let weights: Vec<_> = std::iter::once(first).chain(others.iter().copied()).collect();
            choose(bucket(hash, weights.iter().sum()), weights)
        };
        let before = chosen(first);
        prop_assert!(before.is_some());
        if before == Some(0) {
            prop_assert_eq!(chosen(first + raise), Some(0));
        }
    }

    #[test]
    fn moving_weight_from_the_second_to_the_first_moves_nobody_out_of_the_first(
        hash in any::<u32>(),
        total in 1..=(1_u32 << 31) - 1,
        one in any::<u32>(),
        other in any::<u32>(),
    ) {
        let (small, large) = ((one % total).min(other % total), (one % total).max(other % total));
        let chosen = |first: u32| choose(bucket(hash, total), [first, total - first]);
        prop_assert!(chosen(small) != Some(0) || chosen(large) == Some(0));
    }
}
