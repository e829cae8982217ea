//! What makes sense but is odd.

use super::Warning;
use crate::domain::rule::Rule;
use crate::domain::segment::Configuration;

pub(super) fn of_rules(_rules: &[Rule]) -> Vec<Warning> {
    Vec::new()
}

pub(super) fn of_segment(_configuration: &Configuration) -> Vec<Warning> {
    Vec::new()
}
