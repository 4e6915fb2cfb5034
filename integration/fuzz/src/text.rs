//! Words of an input: mostly such as matter to a policy, so that the fuzzer need not find them, and any bytes besides.

use arbitrary::{Arbitrary, Result, Unstructured};

/// What hosts, addresses, ciphers and macros look like.
const WORDS: &[&[u8]] = &[
    b"",
    b"OK",
    b"FAIL",
    b"FORGED",
    b"TEMP",
    b"NO",
    b"NOT",
    b"NONE",
    b"SOFTWARE",
    b"PROTOCOL",
    b"0",
    b"56",
    b"112",
    b"128",
    b"256",
    b"65535",
    b"65536",
    b"-1",
    b"SSLv3",
    b"TLSv1",
    b"TLSv1.2",
    b"TLSv1.3",
    b"TLSv1.4",
    b"TLS_AES_128_GCM_SHA256",
    b"mx.partner.example",
    b"PARTNER.example.",
    b"relay.partner.example",
    b"other.example",
    b"[192.0.2.7]",
    b"192.0.2.7",
    b"192.0.2.99",
    b"198.51.100.7",
    b"127.0.0.1",
    b"IPv6:2001:db8:0:0:0:0:0:25",
    b"2001:db8::25",
    b"localhost",
    b"keep",
    b"<>",
    b"<anna@partner.example>",
    b"anna@partner.example",
    b"<joe+list@partner.example>",
    b"joe@partner.example",
    b"<postmaster>",
    b"postmaster@rig.example",
    b"<bob@rig.example>",
    b"\"a(b\"@partner.example",
    b"<@relay.example:bob@rig.example>",
    b"Rig CA",
    b"Rig+20CA",
    b"/C=DE/O=Some+20CA/CN=x",
    b"/C=DE/O=Some CA/CN=x",
    b"100% of (them)\r\n250 ok",
    b"\xff\xfe\x9b\x7f",
    b"\xe2\x80\xa8\xe2\x80\xae",
];

/// A word: one that is known, or any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(pub Vec<u8>);

impl<'a> Arbitrary<'a> for Word {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        if input.ratio(3, 4)? {
            return Ok(Self(input.choose(WORDS)?.to_vec()));
        }
        if input.ratio(1, 32)? {
            // Long ones: a name of a certificate may have some thousand bytes.
            let length = input.int_in_range(0..=4000)?;
            let byte: u8 = input.arbitrary()?;
            return Ok(Self(vec![byte; length]));
        }
        Ok(Self(<Vec<u8>>::arbitrary(input)?))
    }
}

impl Word {
    /// The word as C has it: up to its first NUL.
    pub fn c_string(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}
