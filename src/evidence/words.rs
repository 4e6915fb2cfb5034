//! The words in which decisions are counted, most of which need no memory of their own.
//!
//! Must not: change a word. What is told is counted as it was told.

use super::rollup::Word;
use crate::policy::decide::Fared;

pub(super) fn owned(text: &str) -> Word {
    Word::Owned(text.to_owned())
}

/// Words of nearly every session, which need no memory of their own.
const USUAL: &[&str] = &[
    "",
    "TLSv1.3",
    "TLSv1.2",
    "NOT",
    "OK",
    "FAIL",
    "NO",
    "NONE",
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
];

pub(super) fn word(text: &str) -> Word {
    USUAL.iter().find(|usual| **usual == text).map_or_else(|| owned(text), |usual| Word::Borrowed(usual))
}

pub(super) fn fared_word(fared: Fared) -> &'static str {
    match fared {
        Fared::Passed => "pass",
        Fared::Failed => "fail",
        Fared::NotTold => "unknown",
    }
}
