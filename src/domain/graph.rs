//! Who depends on whom: prerequisites between flags, parts between segments.

use std::collections::{HashMap, HashSet};

/// Dependencies within one environment, by keys. What depends on nothing need not be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    edges: HashMap<String, Vec<String>>,
}

impl Graph {
    /// Nobody depends on anybody.
    pub fn new() -> Self {
        Self::default()
    }

    /// What `from` depends on, in place of what it did.
    pub fn set(&mut self, from: &str, to: impl IntoIterator<Item = String>) {
        let to: Vec<_> = to.into_iter().collect();
        if to.is_empty() {
            self.edges.remove(from);
        } else {
            self.edges.insert(from.to_owned(), to);
        }
    }

    /// A way from `from` back to itself, as short as any, with `from` at both ends. `None`: there is none.
    pub fn cycle(&self, from: &str) -> Option<Vec<String>> {
        // Whence each was first reached, one more step away with every round.
        let mut reached: HashMap<&str, &str> = HashMap::new();
        let mut round = vec![self.start(from)?];
        while !round.is_empty() {
            let mut next = Vec::new();
            for at in round {
                for to in self.to(at) {
                    if to == from {
                        return Some(way(&reached, from, at));
                    }
                    if !reached.contains_key(to) {
                        reached.insert(to, at);
                        next.push(to);
                    }
                }
            }
            round = next;
        }
        None
    }

    /// How many dependencies are asked to answer for `from`, if each asks its own anew. Counted no further than to one more than
    /// `limit`, so that a cycle has an end.
    pub fn unfolded(&self, from: &str, limit: usize) -> usize {
        let (mut asked, mut open) = (0, vec![from]);
        while let Some(at) = open.pop() {
            for to in self.to(at) {
                if asked > limit {
                    return asked;
                }
                asked += 1;
                open.push(to);
            }
        }
        asked
    }

    /// Everyone who depends on `on`, directly or not, sorted. Not `on` itself, unless it is on a cycle.
    pub fn dependents(&self, on: &str) -> Vec<&str> {
        let mut users: HashMap<&str, Vec<&str>> = HashMap::new();
        for (from, to) in &self.edges {
            for to in to {
                users.entry(to).or_default().push(from);
            }
        }
        let (mut found, mut open) = (HashSet::new(), vec![on]);
        while let Some(at) = open.pop() {
            for user in users.get(at).into_iter().flatten() {
                if found.insert(*user) {
                    open.push(user);
                }
            }
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_unstable();
        found
    }

    fn start(&self, from: &str) -> Option<&str> {
        self.edges.get_key_value(from).map(|(from, _)| from.as_str())
    }

    fn to(&self, from: &str) -> impl Iterator<Item = &str> {
        self.edges.get(from).into_iter().flatten().map(String::as_str)
    }
}

/// From the beginning of a cycle to `last`, and back.
fn way(reached: &HashMap<&str, &str>, from: &str, last: &str) -> Vec<String> {
    let mut way = vec![from.to_owned()];
    let mut at = last;
    while at != from {
        way.push(at.to_owned());
        let Some(before) = reached.get(at) else {
            break;
        };
        at = before;
    }
    way.push(from.to_owned());
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a: b c; b: c`.
    fn graph(text: &str) -> Graph {
        let mut graph = Graph::new();
        for node in text.split(';') {
            let (from, to) = node.split_once(':').unwrap();
            graph.set(from.trim(), to.split_whitespace().map(str::to_owned));
        }
        graph
    }

    #[test]
    fn cycles_are_told_by_a_shortest_way() {
        let check = |text: &str, expected: Option<&str>| {
            let cycle = graph(text).cycle("a").map(|way| way.join(" "));
            assert_eq!(cycle.as_deref(), expected, "{text}");
        };
        check("a: b; b: c", None);
        check("b: c; c: b", None);
        check("a: b; b: c; c: b", None);
        check("a: a", Some("a a"));
        check("a: b; b: c; c: a", Some("a b c a"));
        check("a: b d; b: c; c: a; d: a", Some("a d a"));
        check("a: b c d; b: x; c: x; d: x; x: y; y: a", Some("a b x y a"));
    }

    #[test]
    fn what_is_asked_twice_counts_twice() {
        let check = |text: &str, expected: usize| assert_eq!(graph(text).unfolded("a", 20), expected, "{text}");
        check("b: a", 0);
        check("a: b c", 2);
        check("a: b c; b: d; c: d", 4);
        check("a: b c; b: d; c: d; d: e f", 8);
        check("a: b b; b: c c; c: d d", 14);
        check("a: b b; b: c c; c: d d; d: e e", 21);
        check("a: b; b: a", 21);
    }

    #[test]
    fn dependents_are_found_however_far() {
        let check = |text: &str, expected: &[&str]| assert_eq!(graph(text).dependents("a"), expected, "{text}");
        check("a: b", &[]);
        check("b: a; c: b a; d: e", &["b", "c"]);
        check("a: b; b: a", &["a", "b"]);
    }

    #[test]
    fn what_is_set_takes_the_place_of_what_was() {
        let mut graph = graph("a: b; b: a");
        graph.set("b", []);
        assert_eq!(graph.cycle("a"), None);
        assert_eq!(graph.dependents("a"), Vec::<&str>::new());
    }
}
