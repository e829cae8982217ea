//! Who is asking.

/// The name by which conditions and splits ask for the targeting key.
pub const TARGETING_KEY: &str = "targeting_key";

/// The attribute of a name, for what is of the targeting key unless another is named. `None`: the targeting key, which may be called by
/// its name.
pub fn own_attribute(name: &str) -> Option<&str> {
    Some(name).filter(|name| !name.is_empty() && *name != TARGETING_KEY)
}

/// Who is asking: a targeting key and attributes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Context {
    targeting_key: Option<Attribute>,
    attributes: Object,
}

/// An attribute's value. There is no null: a null attribute is an absent one.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// true or false.
    Bool(bool),
    /// A number. Neither NaN nor infinite.
    Number(f64),
    /// Text.
    String(String),
    /// A list; an operator holds if it holds for any element.
    List(Vec<Attribute>),
    /// An object; paths reach into it.
    Object(Object),
}

/// Named attributes, sorted by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Object(Vec<(String, Attribute)>);

/// Up to so many names, comparing with each is faster than a binary search: most differ in length already.
const SMALL: usize = 16;

impl Context {
    /// A context; an empty targeting key is an absent one.
    pub fn new(targeting_key: String, attributes: Object) -> Self {
        Self {
            targeting_key: (!targeting_key.is_empty()).then_some(Attribute::String(targeting_key)),
            attributes,
        }
    }

    /// The targeting key.
    pub fn targeting_key(&self) -> Option<&Attribute> {
        self.targeting_key.as_ref()
    }

    /// The attributes, without the targeting key.
    pub fn attributes(&self) -> &Object {
        &self.attributes
    }

    /// About what it takes in memory, in bytes.
    pub fn size_bytes(&self) -> usize {
        let key = self.targeting_key.as_ref().map_or(0, Attribute::size_bytes);
        key + self.attributes.size_bytes()
    }
}

impl Attribute {
    fn size_bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Bool(_) | Self::Number(_) => 0,
                Self::String(text) => text.len(),
                Self::List(elements) => elements.iter().map(Self::size_bytes).sum(),
                Self::Object(object) => object.size_bytes(),
            }
    }
}

impl Object {
    fn size_bytes(&self) -> usize {
        let entry = |(name, attribute): (&str, &Attribute)| size_of::<String>() + name.len() + attribute.size_bytes();
        self.iter().map(entry).sum()
    }

    /// The attribute of exactly this name.
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        let found = if self.0.len() <= SMALL {
            self.0.iter().find(|(known, _)| known == name)
        } else {
            let at = self.0.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
            self.0.get(at)
        };
        found.map(|(_, attribute)| attribute)
    }

    /// Every attribute with its name, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Attribute)> {
        self.0.iter().map(|(name, attribute)| (name.as_str(), attribute))
    }

    /// How many attributes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, Attribute)> for Object {
    /// Of two attributes with one name the later wins.
    fn from_iter<I: IntoIterator<Item = (String, Attribute)>>(attributes: I) -> Self {
        let mut sorted: Vec<_> = attributes.into_iter().collect();
        sorted.reverse();
        sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
        sorted.dedup_by(|(a, _), (b, _)| a == b);
        Self(sorted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_of_two_attributes_wins() {
        let object: Object = [("b", 1.0), ("a", 2.0), ("b", 3.0)]
            .into_iter()
            .map(|(name, number)| (name.to_owned(), Attribute::Number(number)))
            .collect();
        assert_eq!(object.len(), 2);
        assert_eq!(object.get("b"), Some(&Attribute::Number(3.0)));
        assert_eq!(object.get("c"), None);
    }

    #[test]
    fn every_name_is_found_however_many_there_are() {
        for count in [1, SMALL, SMALL + 1, 1_000] {
            let name = |n: usize| format!("name-{n}");
            let object: Object = (0..count).map(|n| (name(n), Attribute::Bool(n % 2 == 0))).collect();
            for n in 0..count {
                assert_eq!(
                    object.get(&name(n)),
                    Some(&Attribute::Bool(n % 2 == 0)),
                    "{n} of {count}"
                );
            }
            assert_eq!(object.get(&name(count)), None, "{count}");
        }
    }

    #[test]
    fn an_empty_targeting_key_is_an_absent_one() {
        assert_eq!(Context::new(String::new(), Object::default()).targeting_key(), None);
    }
}
