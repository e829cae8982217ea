//! Exact decimal numbers in the binary form of PostgreSQL's `numeric`.

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::domain::decimal::Decimal;

/// Decimal digits in one of PostgreSQL's.
const GROUP: i16 = 4;
const BASE: u128 = 10_000;
const NEGATIVE: u16 = 0x4000;

/// A number to be written to a column of the type `numeric`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numeric(pub Decimal);

impl ToSql for Numeric {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        write(self.0, out);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::NUMERIC
    }

    to_sql_checked!();
}

/// As `numeric_send` of PostgreSQL's `src/backend/utils/adt/numeric.c` has it: how many digits to the base of 10 000, the power of
/// that base that the first is multiplied by, the sign, how many decimal places are shown, and the digits.
fn write(number: Decimal, out: &mut BytesMut) {
    let (digits, exponent) = number.parts();
    // The point lies between two digits of the base.
    let shift = exponent.rem_euclid(GROUP);
    let mut rest = u128::from(digits) * 10_u128.pow(u32::from(shift.unsigned_abs()));
    let mut weight = exponent.div_euclid(GROUP) - 1;
    let mut groups: Vec<u16> = Vec::with_capacity(8);
    while rest > 0 {
        groups.push(u16::try_from(rest % BASE).unwrap_or_default());
        rest /= BASE;
        weight += 1;
    }
    // From the lowest, those that are zero add nothing.
    let zeros = groups.iter().take_while(|group| **group == 0).count();
    let shown = groups.iter().skip(zeros).rev();
    if groups.is_empty() {
        weight = 0;
    }
    out.put_u16(u16::try_from(groups.len() - zeros).unwrap_or_default());
    out.put_i16(weight);
    out.put_u16(if number.is_negative() { NEGATIVE } else { 0 });
    out.put_u16(exponent.min(0).unsigned_abs());
    for group in shown {
        out.put_u16(*group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(number: f64) -> Vec<i16> {
        let mut out = BytesMut::new();
        write(Decimal::shortest(number).unwrap(), &mut out);
        let pairs = out.as_chunks::<2>().0;
        pairs.iter().map(|pair| i16::from_be_bytes(*pair)).collect()
    }

    /// What `numeric_send` of PostgreSQL 17 says of these.
    #[test]
    fn numbers_are_written_as_postgresql_sends_them() {
        assert_eq!(bytes(0.0), [0, 0, 0, 0]);
        assert_eq!(bytes(1.0), [1, 0, 0, 0, 1]);
        assert_eq!(bytes(-1.5), [2, 0, 0x4000, 1, 1, 5000]);
        assert_eq!(bytes(19.99), [2, 0, 0, 2, 19, 9900]);
        assert_eq!(bytes(10_000.0), [1, 1, 0, 0, 1]);
        assert_eq!(bytes(123_456_789.0), [3, 2, 0, 0, 1, 2345, 6789]);
        assert_eq!(bytes(0.0001), [1, -1, 0, 4, 1]);
        assert_eq!(bytes(0.000_01), [1, -2, 0, 5, 1000]);
        assert_eq!(bytes(1e15), [1, 3, 0, 0, 1000]);
    }
}
