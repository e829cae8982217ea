//! Decimal numbers as people write them: what is summed must not depend on the order in which it is.

use super::limits;

/// A decimal number: `digits` × 10^`exponent`. Zero is `0 × 10^0`, and otherwise the last digit is not 0, so that equal numbers are
/// equal values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decimal {
    negative: bool,
    digits: u64,
    exponent: i16,
}

/// Why a number is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is NaN or infinite.
    #[error("is not a finite number")]
    NotFinite,
    /// It is too large.
    #[error("is more than {most} away from 0", most = limits::METRIC_VALUE)]
    TooLarge,
    /// It is neither 0 nor large enough to count.
    #[error("is nearer to 0 than 1e-{places} and not 0", places = limits::METRIC_VALUE_PLACES)]
    TooSmall,
}

impl Decimal {
    /// The shortest decimal number that is read as this float: 19.99 is 19.99, and not the binary fraction nearest to it, which is
    /// what people mean who send it. D. M. Gay: Correctly Rounded Binary-Decimal and Decimal-Binary Conversions, 1990; here as the
    /// standard library writes it.
    pub fn shortest(number: f64) -> Result<Self, Refused> {
        if !number.is_finite() {
            return Err(Refused::NotFinite);
        }
        if number == 0.0 {
            return Ok(Self::from(0));
        }
        let magnitude = number.abs();
        #[expect(clippy::cast_precision_loss, reason = "the limit is a power of ten below 2^53")]
        if magnitude > limits::METRIC_VALUE as f64 {
            return Err(Refused::TooLarge);
        }
        // What it is written as is the same whatever the machine: `d.ddde-n`.
        let text = format!("{magnitude:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        let read = digits.parse().ok().zip(exponent.parse::<i16>().ok());
        let (digits, exponent) = read.ok_or(Refused::NotFinite)?;
        let places = usize::from(exponent.min(0).unsigned_abs());
        if places > limits::METRIC_VALUE_PLACES {
            return Err(Refused::TooSmall);
        }
        let fraction = i16::try_from(fraction).unwrap_or(i16::MAX);
        Ok(Self {
            negative: number < 0.0,
            ..Self::normal(digits, exponent - fraction)
        })
    }

    /// Whether it is less than zero.
    pub fn is_negative(self) -> bool {
        self.negative
    }

    /// Its digits without the point, and the power of ten that they are multiplied by.
    pub fn parts(self) -> (u64, i16) {
        (self.digits, self.exponent)
    }

    fn normal(mut digits: u64, mut exponent: i16) -> Self {
        if digits == 0 {
            exponent = 0;
        }
        while digits != 0 && digits.is_multiple_of(10) {
            digits /= 10;
            exponent += 1;
        }
        Self {
            negative: false,
            digits,
            exponent,
        }
    }
}

impl From<u64> for Decimal {
    fn from(number: u64) -> Self {
        Self::normal(number, 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(number: f64) -> (bool, u64, i16) {
        let Decimal {
            negative,
            digits,
            exponent,
        } = Decimal::shortest(number).unwrap();
        (negative, digits, exponent)
    }

    #[test]
    fn floats_are_what_they_are_written_as() {
        assert_eq!(parts(0.0), (false, 0, 0));
        assert_eq!(parts(-0.0), (false, 0, 0));
        assert_eq!(parts(19.99), (false, 1999, -2));
        assert_eq!(parts(-1.5), (true, 15, -1));
        assert_eq!(parts(100.0), (false, 1, 2));
        assert_eq!(parts(0.1 + 0.2), (false, 30_000_000_000_000_004, -17));
        assert_eq!(parts(1e15), (false, 1, 15));
        assert_eq!(parts(1e-15), (false, 1, -15));
        assert_eq!(parts(1.5e-15), (false, 15, -16));
    }

    #[test]
    fn what_cannot_be_summed_is_refused() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Decimal::shortest(number), Err(Refused::NotFinite));
        }
        assert_eq!(Decimal::shortest(1.000_000_000_000_001e15), Err(Refused::TooLarge));
        assert_eq!(Decimal::shortest(-f64::MAX), Err(Refused::TooLarge));
        assert_eq!(Decimal::shortest(9.9e-16), Err(Refused::TooSmall));
        assert_eq!(Decimal::shortest(-f64::MIN_POSITIVE), Err(Refused::TooSmall));
    }

    proptest! {
        #[test]
        fn the_number_is_read_back(number in -1e15..1e15_f64) {
            if let Ok(Decimal { negative, digits, exponent }) = Decimal::shortest(number) {
                let sign = if negative { "-" } else { "" };
                let read: f64 = format!("{sign}{digits}e{exponent}").parse().unwrap();
                // To the bit, but for the sign of zero.
                prop_assert_eq!((read + 0.0).to_bits(), (number + 0.0).to_bits());
            } else {
                prop_assert!(number.abs() < 1e-15);
            }
        }
    }
}
