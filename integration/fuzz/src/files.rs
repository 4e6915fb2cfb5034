//! Policy files in memory, and inputs that are several files.

use encr_milter::policy_file::load::{Loaded, ReadError, Request, Store, load};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Stands between two files of an input, on a line of its own.
const BETWEEN: &[u8] = b"\n%%%%\n";

/// The files of an input, in order.
pub fn split(mut input: &[u8]) -> Vec<&[u8]> {
    let mut files = Vec::new();
    while let Some(at) = input.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
        files.push(&input[..=at]);
        input = &input[at + BETWEEN.len()..];
    }
    files.push(input);
    files
}

/// Files in memory.
#[derive(Default)]
pub struct Memory(BTreeMap<PathBuf, Vec<u8>>);

impl Memory {
    /// One file, and the lists that it may name: `list.txt`, `hosts.txt`.
    pub fn new(policy: &[u8], list: &[u8]) -> Self {
        let named = |name: &str, bytes: &[u8]| (PathBuf::from(name), bytes.to_vec());
        Self(BTreeMap::from([
            named("policy.toml", policy),
            named("list.txt", list),
            named("hosts.txt", list),
        ]))
    }

    /// Loads the policy.
    pub fn load(mut self) -> Loaded {
        let request = Request { patterns: vec!["policy.toml".into()], max_size: 1 << 20 };
        load(&request, &mut self, crate::TODAY)
    }
}

impl Store for Memory {
    fn expand(&mut self, pattern: &Path) -> Result<Vec<PathBuf>, ReadError> {
        Ok(vec![pattern.to_path_buf()])
    }

    fn read(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        let bytes = self.0.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        if bytes.len() as u64 > limit { Err(ReadError::TooLarge) } else { Ok(bytes.clone()) }
    }
}

/// Loads a policy of one file.
pub fn load_text(text: &str) -> Loaded {
    Memory::new(text.as_bytes(), b"").load()
}
