//! The files that are loaded: each the same for the same number of keys.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What a policy's keys stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Names, one a line.
    Lists,
    /// Addresses, one a line.
    Networks,
    /// One rule with all of them.
    Arrays,
    /// A rule for each.
    Tables,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Lists, Self::Networks, Self::Arrays, Self::Tables];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lists => "list",
            Self::Networks => "networks",
            Self::Arrays => "array",
            Self::Tables => "[[rule]]",
        }
    }

    pub(crate) fn reference(self) -> &'static str {
        match self {
            Self::Lists | Self::Networks => "reading and splitting",
            Self::Arrays | Self::Tables => "toml's parsing",
        }
    }

    /// Writes the policy; gives its file.
    pub(crate) fn write(self, folder: &Path, keys: usize) -> PathBuf {
        self.write_of(folder, 0..keys)
    }

    /// The same without its last key.
    pub(crate) fn write_without_last(self, folder: &Path, keys: usize) {
        self.write_of(folder, 0..keys - 1);
    }

    fn write_of(self, folder: &Path, keys: std::ops::Range<usize>) -> PathBuf {
        let mut text = String::from("version = 1\n");
        match self {
            Self::Lists | Self::Networks => {
                text.push_str(
                    "[[rule]]\nname = \"partners\"\nclient-file = \"list.txt\"\nsoft-fail = { min-bits = 128 }\n",
                );
                let key = if self == Self::Lists { name } else { address };
                std::fs::write(list(folder), keys.map(key).collect::<Vec<_>>().join("\n") + "\n").unwrap();
            }
            Self::Arrays => {
                text.push_str("[[rule]]\nname = \"partners\"\nclient = [\n");
                for n in keys {
                    writeln!(text, "    \"{}\",", name(n)).unwrap();
                }
                text.push_str("]\nsoft-fail = { min-bits = 128 }\n");
            }
            Self::Tables => {
                for n in keys {
                    writeln!(
                        text,
                        "[[rule]]\nname = \"rule {n}\"\nclient = [\"{}\"]\nsoft-fail = {{ min-bits = 128 }}",
                        name(n)
                    )
                    .unwrap();
                }
            }
        }
        let policy = folder.join("policy.toml");
        std::fs::write(&policy, text).unwrap();
        policy
    }
}

/// Where a list lies.
pub(crate) fn list(folder: &Path) -> PathBuf {
    folder.join("list.txt")
}

/// Domains as they are: of different lengths, in no order, no two alike.
pub(crate) fn name(n: usize) -> String {
    let scattered = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = ["mail", "mx", "gate", "relay-out", "smtp", "post", "a", "server"][scattered as usize % 8];
    let top = ["com", "org", "de", "co.uk", "example"][(scattered >> 8) as usize % 5];
    format!("{word}{n}.{:x}.{top}", scattered >> 44)
}

fn address(n: usize) -> String {
    let scattered = (n as u32).wrapping_mul(0x9e37_79b1);
    std::net::Ipv4Addr::from(scattered).to_string()
}

/// An access map of so many TLS rules.
pub(crate) fn write_map(folder: &Path, lines: usize) -> PathBuf {
    let mut text = String::new();
    for n in 0..lines {
        let bits = [112, 128, 168, 256][n % 4];
        writeln!(text, "TLS_Clt:{}\tENCR:{bits}", name(n)).unwrap();
    }
    let map = folder.join("access");
    std::fs::write(&map, text).unwrap();
    map
}

/// Numbers that follow no order, the same each time (SplitMix64).
#[derive(Default)]
pub(crate) struct Names(u64);

impl Names {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
