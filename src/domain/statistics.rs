//! The statistics of experiments: whether units came to the arms as the weights say.
//!
//! Every formula names where it is from. Means and variances are not here: they are sums, taken exactly where the events are
//! (`store::results`), so that no order of addition can show in them.

use statrs::distribution::{ChiSquared, ContinuousCDF as _};

/// Below this p the shares of the arms are not to be trusted, nor anything that is computed of them: one right experiment in a
/// thousand is suspected. R. Kohavi, D. Tang, Y. Xu: Trustworthy Online Controlled Experiments, Cambridge 2020, chapter 21.
pub const SUSPICIOUS_P: f64 = 0.001;

/// How many units every arm must expect for the distribution of the statistic to be near enough to the chi-squared one: the
/// customary rule, on the cautious side of what W. G. Cochran found: Some Methods for Strengthening the Common χ² Tests, Biometrics
/// 10 (1954), pages 417 to 451.
pub const LEAST_EXPECTED: f64 = 5.0;

/// What the sample-ratio test says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRatio {
    /// Pearson's statistic.
    pub statistic: f64,
    /// One less than there are arms.
    pub degrees_of_freedom: u32,
    /// How probable a statistic so large, or larger, is if units come to the arms as the weights say.
    pub p: f64,
}

impl SampleRatio {
    /// Whether the shares are not to be trusted.
    pub fn is_suspicious(&self) -> bool {
        self.p < SUSPICIOUS_P
    }
}

/// The chi-squared test of how many units came to each arm against the arms' weights: the sum over the arms of
/// (observed − expected)² / expected, where expected is the arm's share of the weights times all units; of its distribution the
/// upper tail, with one degree of freedom less than there are arms. K. Pearson: On the Criterion …, Philosophical Magazine 50
/// (1900), pages 157 to 175; as a test of sample ratios: A. Fabijan et al.: Diagnosing Sample Ratio Mismatch in Online Controlled
/// Experiments, KDD 2019.
///
/// `None`: there are too few units to say ([`LEAST_EXPECTED`]), or fewer than two arms with a weight.
pub fn sample_ratio(arms: &[Arm]) -> Option<SampleRatio> {
    let (units, weights) = arms.iter().try_fold((0_u64, 0_u64), |(units, weights), arm| {
        Some((units.checked_add(arm.units)?, weights.checked_add(arm.weight)?))
    })?;
    let degrees_of_freedom = u32::try_from(arms.len().checked_sub(1)?).ok()?;
    let mut statistic = 0.0;
    for arm in arms {
        let expected = float(units) * float(arm.weight) / float(weights);
        if expected.is_nan() || expected < LEAST_EXPECTED {
            return None;
        }
        let difference = float(arm.units) - expected;
        statistic += difference * difference / expected;
    }
    let distribution = ChiSquared::new(f64::from(degrees_of_freedom)).ok()?;
    Some(SampleRatio {
        statistic,
        degrees_of_freedom,
        p: distribution.sf(statistic),
    })
}

/// One arm, as the test sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arm {
    /// How many units came to it.
    pub units: u64,
    /// What it should have got of all units, relative to the other arms' weights.
    pub weight: u64,
}

/// The part of a whole. `None`: there is no whole.
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| float(part) / float(whole))
}

/// Exact up to 2^53, which is more than there are units.
#[expect(clippy::cast_precision_loss, reason = "there are fewer units than 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(observed: &[u64], weights: &[u64]) -> Option<SampleRatio> {
        let arms: Vec<_> = observed
            .iter()
            .zip(weights)
            .map(|(&units, &weight)| Arm { units, weight })
            .collect();
        sample_ratio(&arms)
    }

    /// `scipy.stats.chisquare` of scipy 1.17.1. The third is the worked example of Kohavi, Tang and Xu, chapter 21: 1.8e-6.
    const SCIPY: &[(&[u64], &[u64], f64, f64)] = &[
        (&[5_000, 5_000], &[1, 1], 0.0, 1.0),
        (&[5_050, 4_950], &[1, 1], 1.0, 0.317_310_507_862_911_15),
        (
            &[821_588, 815_482],
            &[1, 1],
            22.774_368_841_894_36,
            1.821_792_872_619_185_8e-6,
        ),
        (
            &[10_000, 10_300],
            &[1, 1],
            4.433_497_536_945_813,
            0.035_240_223_824_274_594,
        ),
        (
            &[3_333, 3_300, 3_400],
            &[1, 1, 1],
            1.552_676_168_643_476_5,
            0.460_087_732_746_817_36,
        ),
        (&[910, 95], &[9, 1], 0.334_438_916_528_468_8, 0.563_056_909_951_003_4),
        (
            &[100, 100, 100, 130],
            &[1, 1, 1, 1],
            6.279_069_767_441_861,
            0.098_794_721_255_252_67,
        ),
        (&[1, 9], &[1, 1], 6.4, 0.011_412_036_386_001_66),
        (
            &[700_000, 301_500],
            &[7, 3],
            5.242_136_794_807_789,
            0.022_046_179_576_083_89,
        ),
        (
            &[50_123, 24_890, 25_300, 9_987],
            &[10, 5, 5, 2],
            3.575_546_690_843_154_4,
            0.311_095_338_182_185_8,
        ),
        (&[1_000_000, 0], &[1, 1], 1_000_000.0, 0.0),
        (&[6, 14], &[5, 15], 0.266_666_666_666_666_66, 0.605_576_616_335_346_2),
    ];

    #[test]
    fn the_sample_ratio_test_is_scipys() {
        for (observed, weights, statistic, p) in SCIPY {
            let ours = test(observed, weights).unwrap();
            let near = |ours: f64, theirs: f64| (ours - theirs).abs() <= 1e-11 * theirs.abs();
            assert!(near(ours.statistic, *statistic), "{observed:?}: {ours:?}");
            assert!(near(ours.p, *p), "{observed:?}: {ours:?}, not {p}");
            assert_eq!(ours.degrees_of_freedom as usize, observed.len() - 1);
        }
    }

    #[test]
    fn a_warning_begins_below_one_in_a_thousand() {
        // With one degree of freedom p is 0.001 at 10.8276 (scipy.stats.chi2.isf(0.001, 1)).
        let suspicious = |a: u64, b: u64| test(&[a, b], &[1, 1]).unwrap().is_suspicious();
        assert!(!suspicious(50_520, 49_480), "10.816");
        assert!(suspicious(50_521, 49_479), "10.8576");
    }

    #[test]
    fn too_few_units_say_nothing() {
        assert_eq!(test(&[], &[]), None);
        assert_eq!(test(&[100], &[1]), None);
        assert_eq!(test(&[0, 0], &[1, 1]), None);
        assert_eq!(test(&[4, 5], &[1, 1]), None);
        assert!(test(&[5, 5], &[1, 1]).is_some());
        // An arm that expects nobody expects fewer than five.
        assert_eq!(test(&[1_000, 0], &[1, 0]), None);
        assert_eq!(test(&[u64::MAX, 1], &[1, 1]), None);
    }

    #[test]
    fn shares_are_parts_of_a_whole() {
        assert_eq!(share(1, 4), Some(0.25));
        assert_eq!(share(0, 0), None);
    }
}
