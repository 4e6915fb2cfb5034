//! Key bits in the few classes that ciphers have today, to draw and to colour.

use crate::evidence::questions::exposure::BitsShare;

/// How strongly a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strength {
    /// In the clear, or by a cipher that does not encrypt.
    Clear,
    /// 3DES and older.
    Weak,
    /// AES-128.
    Good,
    /// AES-256, ChaCha20.
    Strong,
    /// The MTA did not tell.
    NotTold,
}

impl Strength {
    /// All of them, as they are drawn.
    pub(super) const ALL: [Self; 5] = [Self::Clear, Self::Weak, Self::Good, Self::Strong, Self::NotTold];

    fn of(bits: Option<u16>) -> Self {
        match bits {
            None => Self::NotTold,
            Some(0) => Self::Clear,
            Some(1..=127) => Self::Weak,
            Some(128..=255) => Self::Good,
            Some(256..) => Self::Strong,
        }
    }

    /// What a person calls it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Clear => "in the clear",
            Self::Weak => "below 128 bits",
            Self::Good => "128 bits",
            Self::Strong => "256 bits",
            Self::NotTold => "not told",
        }
    }

    /// What draws it on a terminal: the stronger, the fuller.
    pub(super) fn block(self) -> char {
        match self {
            Self::Clear => '·',
            Self::Weak => '░',
            Self::Good => '▒',
            Self::Strong => '█',
            Self::NotTold => '?',
        }
    }

    /// What colours it in HTML.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Weak => "weak",
            Self::Good => "good",
            Self::Strong => "strong",
            Self::NotTold => "untold",
        }
    }
}

/// How many messages of each class, in the order of [`Strength::ALL`].
pub(super) fn by_strength(shares: &[BitsShare]) -> [(Strength, u64); 5] {
    Strength::ALL.map(|strength| {
        let of_class = shares.iter().filter(|share| Strength::of(share.bits) == strength);
        (strength, of_class.map(|share| share.messages).sum())
    })
}
