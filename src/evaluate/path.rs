//! Where a condition or a split finds its attribute, prepared so that evaluation only walks.

use crate::domain::context::{Attribute, Context, TARGETING_KEY};

/// The way to an attribute.
///
/// - `targeting_key` is the context's targeting key and nothing else: an attribute of that name is never read, whether the context
///   has a targeting key or not.
/// - Any other name is looked for among the attributes as it is written, dots included.
/// - Only if there is none, a name with dots is a path: `address.country` is `country` in the object `address`. Below the first
///   level every part is one plain name; paths reach into objects, not into lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Path {
    /// The targeting key.
    TargetingKey,
    /// An attribute of the context.
    Name(Box<str>),
    /// An attribute of the context whose name holds dots, else one within nested objects.
    Nested(Box<Nested>),
}

/// A name that holds dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nested {
    whole: Box<str>,
    parents: Box<[Box<str>]>,
    leaf: Box<str>,
}

impl Path {
    /// Prepares the way to an attribute. `None`: the name is empty.
    pub(super) fn new(name: &str) -> Option<Self> {
        match name.rsplit_once('.') {
            None if name.is_empty() => None,
            None if name == TARGETING_KEY => Some(Self::TargetingKey),
            None => Some(Self::Name(name.into())),
            // The targeting key is text, and has nothing nested.
            Some((parents, _)) if parents.split('.').next() == Some(TARGETING_KEY) => Some(Self::Name(name.into())),
            Some((parents, leaf)) => Some(Self::Nested(Box::new(Nested {
                whole: name.into(),
                parents: parents.split('.').map(Into::into).collect(),
                leaf: leaf.into(),
            }))),
        }
    }

    /// The name, as it was written.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::TargetingKey => TARGETING_KEY,
            Self::Name(name) => name,
            Self::Nested(nested) => &nested.whole,
        }
    }

    /// The attribute, if the context has it.
    pub(super) fn find<'c>(&self, context: &'c Context) -> Option<&'c Attribute> {
        match self {
            Self::TargetingKey => context.targeting_key(),
            Self::Name(name) => context.attributes().get(name),
            Self::Nested(nested) => {
                let exact = context.attributes().get(&nested.whole);
                exact.or_else(|| walk(context, &nested.parents, &nested.leaf))
            }
        }
    }
}

fn walk<'c>(context: &'c Context, parents: &[Box<str>], leaf: &str) -> Option<&'c Attribute> {
    let mut object = context.attributes();
    for parent in parents {
        match object.get(parent)? {
            Attribute::Object(inner) => object = inner,
            Attribute::Bool(_) | Attribute::Number(_) | Attribute::String(_) | Attribute::List(_) => return None,
        }
    }
    object.get(leaf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::context::Object;

    fn object<const N: usize>(attributes: [(&str, Attribute); N]) -> Object {
        attributes
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn check(name: &str, context: &Context, expected: Option<f64>) {
        let found = Path::new(name).unwrap().find(context);
        assert_eq!(found, expected.map(Attribute::Number).as_ref(), "{name}");
    }

    #[test]
    fn paths_reach_into_objects() {
        let inner = object([("c", Attribute::Number(3.0)), ("d.e", Attribute::Number(4.0))]);
        let outer = object([("b", Attribute::Object(inner)), ("n", Attribute::Number(2.0))]);
        let list = Attribute::List(vec![Attribute::Object(outer.clone())]);
        let attributes = object([("a", Attribute::Object(outer)), ("l", list)]);
        let context = Context::new(String::new(), attributes);
        let check = |name, expected| check(name, &context, expected);
        check("a.n", Some(2.0));
        check("a.b.c", Some(3.0));
        check("a.x", None);
        check("a.n.c", None);
        check("l.n", None);
        check("a.b.d.e", None);
        check("b", None);
        check("a..n", None);
        check(".a", None);
    }

    #[test]
    fn a_name_that_holds_dots_is_found_first() {
        let inner = object([("b", Attribute::Number(1.0))]);
        let attributes = object([("a.b", Attribute::Number(2.0)), ("a", Attribute::Object(inner))]);
        check("a.b", &Context::new(String::new(), attributes), Some(2.0));
    }

    #[test]
    fn the_targeting_key_is_never_an_attribute() {
        let inner = object([("b", Attribute::Number(1.0))]);
        let attributes = object([
            (TARGETING_KEY, Attribute::Object(inner)),
            ("targeting_key.c", Attribute::Number(2.0)),
        ]);
        let absent = Context::new(String::new(), attributes.clone());
        let present = Context::new("ada".into(), attributes);
        let path = Path::new(TARGETING_KEY).unwrap();
        assert_eq!(path.find(&absent), None);
        assert_eq!(path.find(&present), Some(&Attribute::String("ada".into())));
        check("targeting_key.b", &present, None);
        check("targeting_key.c", &present, Some(2.0));
    }

    #[test]
    fn an_empty_name_leads_nowhere() {
        assert_eq!(Path::new(""), None);
    }
}
