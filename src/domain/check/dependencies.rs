//! What depends on what: no cycles, and no more to ask than one evaluation may.

use std::collections::HashSet;

use crate::domain::graph::Graph;
use crate::domain::invalid::Violations;
use crate::domain::limits;

/// Dependencies to be.
pub(super) struct Proposal<'a> {
    /// Who is to depend.
    pub(super) from: &'a str,
    /// Each with the path of the field that names it.
    pub(super) to: Vec<(String, &'a str)>,
    /// The field under which what they cost together is told.
    pub(super) field: &'static str,
    /// What they are, in the plural.
    pub(super) what: &'static str,
    /// How many one evaluation may ask.
    pub(super) limit: usize,
}

impl Proposal<'_> {
    /// Checks the proposal in the graph of those that are.
    pub(super) fn check(&self, violations: &mut Violations, graph: &Graph) {
        let mut proposed = graph.clone();
        proposed.set(self.from, []);
        let dependents: HashSet<String> = proposed.dependents(self.from).into_iter().map(str::to_owned).collect();
        let closing = self.to.iter().filter(|(_, to)| dependents.contains(*to));
        let mut closes = false;
        for (field, to) in closing.take(limits::VIOLATIONS) {
            closes = true;
            // Each by itself, so that each is told by its own way.
            proposed.set(self.from, [(*to).to_owned()]);
            let way = proposed.cycle(self.from).map(|cycle| way(&cycle)).unwrap_or_default();
            violations.add(field, format!("closes a cycle: {way}"));
        }
        if !closes {
            proposed.set(self.from, self.to.iter().map(|(_, to)| (*to).to_owned()));
            self.check_cost(violations, graph, &proposed);
        }
    }

    fn check_cost(&self, violations: &mut Violations, graph: &Graph, proposed: &Graph) {
        let Self {
            from,
            field,
            what,
            limit,
            ..
        } = *self;
        let asked = proposed.unfolded(from, limit);
        if asked > limit {
            violations.add(
                field,
                format!("ask more than {limit} {what}, theirs included; name fewer"),
            );
            return;
        }
        // Who depends on this asks so many more; who asks no more than before cannot have been made too costly.
        if asked <= graph.unfolded(from, limit) {
            return;
        }
        for dependent in proposed.dependents(from) {
            if proposed.unfolded(dependent, limit) > limit {
                violations.add(
                    field,
                    format!("make {dependent}, which depends on {from}, ask more than {limit} {what}; name fewer"),
                );
            }
        }
    }
}

/// Too long a way is told by its ends: trailers are limited.
fn way(cycle: &[String]) -> String {
    const SHOWN: usize = 8;
    let end = cycle.len().saturating_sub(SHOWN / 2);
    if end <= SHOWN {
        return cycle.join(" → ");
    }
    let (first, last) = (cycle.get(..SHOWN), cycle.get(end..));
    let [first, last] = [first, last].map(|part| part.unwrap_or_default().join(" → "));
    format!("{first} → … → {last}")
}
