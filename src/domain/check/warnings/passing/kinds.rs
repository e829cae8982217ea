//! What can be asked a test at all.

/// What can be asked at all: what is of another kind fails, negated or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain::check::warnings) struct Kinds {
    pub(super) bools: bool,
    pub(super) numbers: bool,
    pub(super) texts: Option<Texts>,
}

/// Kinds of texts. No text is of two kinds but for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Texts {
    Any,
    Versions,
    Moments,
    Addresses,
}

impl Kinds {
    pub(super) const NONE: Self = Self {
        bools: false,
        numbers: false,
        texts: None,
    };

    /// Whether a text can be asked.
    pub(in crate::domain::check::warnings) fn has_texts(self) -> bool {
        self.texts.is_some()
    }

    /// Whether whatever can be asked the one can be asked the other.
    pub(in crate::domain::check::warnings) fn within(self, other: Self) -> bool {
        let texts = match (self.texts, other.texts) {
            (None, _) | (_, Some(Texts::Any)) => true,
            (one, two) => one == two,
        };
        texts && self.bools <= other.bools && self.numbers <= other.numbers
    }

    /// Whether nothing can be asked both.
    pub(in crate::domain::check::warnings) fn apart(self, other: Self) -> bool {
        let texts = match (self.texts, other.texts) {
            (None, _) | (_, None) => true,
            (Some(Texts::Any), _) | (_, Some(Texts::Any)) => false,
            (one, two) => one != two,
        };
        texts && !(self.bools && other.bools) && !(self.numbers && other.numbers)
    }
}
