//! What is asked of every engine, in words that all of them have.

/// Who asks: outside all conditions of the first two of three rules, inside those of the last.
pub const CONTEXT: &str = r#"{"targetingKey":"3b9f6f0e-52c1-4d0f-a7ab-0c5b8d7a1e44","company":"company-567","country":"NO","email":"ada@example.com","plan":"pro","age":36}"#;

/// The flag's key.
pub const FLAG: &str = "new-checkout";

/// What the flag does.
#[derive(Debug, Clone, Copy)]
pub enum Rules {
    /// If the country is one of three: half of the users by their key.
    One,
    /// Three rules of two conditions: the third holds, and serves half of the users by their key.
    Three,
}

impl Rules {
    pub fn title(self) -> &'static str {
        match self {
            Self::One => "One condition and a split",
            Self::Three => "Three rules of two conditions and a split",
        }
    }
}
