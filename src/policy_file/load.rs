//! Reading a policy: patterns to files, files to text, text to a policy.
//!
//! Promises: loaded whole or not at all; a file that cannot be read, is no text, or is larger than allowed
//! is told of with its name; where the policy comes from (the disk, or the copy of the last good one) makes
//! no difference to what it means.

use super::compile::{self, List};
use super::schema;
use super::walk::{Walk, tell_syntax};
use crate::diagnostics::{Diagnostic, Diagnostics, FileId, Place, Sources};
use crate::policy::{Day, Policy};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::de::DeTable;

/// Where texts come from.
pub trait Store {
    /// The files of a pattern, sorted by name.
    fn expand(&mut self, pattern: &Path) -> Result<Vec<PathBuf>, ReadError>;
    /// A file's bytes, `limit` of them at the most.
    fn read(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError>;
}

/// What to look at where the system said no.
fn next_step(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; the user that encr-milter runs as must be allowed to read it and to enter its folders (`namei -l` shows whose they are)"
        }
        _ => "",
    }
}

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The pattern is no pattern.
    #[error("not a pattern: {0}")]
    Pattern(String),
    /// The pattern matches nothing.
    #[error("no file matches")]
    NoMatch,
    /// The system's answer.
    #[error("{0}{next}", next = next_step(.0))]
    Io(#[from] io::Error),
    /// A folder, a device, a pipe.
    #[error("not a regular file")]
    NotAFile,
    /// More than allowed.
    #[error("larger than the limit")]
    TooLarge,
}

/// What came of loading.
#[derive(Debug)]
pub struct Loaded {
    /// The policy, where nothing is wrong.
    pub policy: Option<Policy>,
    /// What is wrong, or odd.
    pub diagnostics: Diagnostics,
    /// Every file that was read: policy files first, then lists.
    pub sources: Sources,
    /// How many of them are policy files.
    pub policy_files: usize,
    /// Whether something could not be read that may be readable as it is a moment later ([`is_passing`]).
    pub passing: bool,
}

/// Whether an error says something of the machine at this moment, and nothing of the file: out of descriptors or memory,
/// a disk or a server that does not answer.
pub fn is_passing(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(
            Errno::EMFILE
                | Errno::ENFILE
                | Errno::ENOMEM
                | Errno::EIO
                | Errno::ESTALE
                | Errno::ETIMEDOUT
                | Errno::EAGAIN
                | Errno::ENODEV
        )
    )
}

/// Files on the disk.
#[derive(Debug, Default)]
pub struct Disk;

impl Store for Disk {
    fn expand(&mut self, pattern: &Path) -> Result<Vec<PathBuf>, ReadError> {
        let Some(text) = pattern.to_str().filter(|text| text.contains(['*', '?', '['])) else {
            return Ok(vec![pattern.to_path_buf()]);
        };
        if pattern.exists() {
            return Ok(vec![pattern.to_path_buf()]);
        }
        // Hidden files and editors' leftovers are not part of a policy.
        let options = glob::MatchOptions {
            require_literal_leading_dot: true,
            require_literal_separator: true,
            ..glob::MatchOptions::default()
        };
        let matches =
            glob::glob_with(text, options).map_err(|error| ReadError::Pattern(error.to_string()))?;
        let mut found = Vec::new();
        for path in matches {
            let path = path.map_err(|error| ReadError::Io(error.into()))?;
            // A folder that a glob matches is no part of a policy, as a backup is none.
            if !is_backup(&path) && !path.is_dir() {
                found.push(path);
            }
        }
        if found.is_empty() { Err(ReadError::NoMatch) } else { Ok(found) }
    }

    fn read(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        // Asked before opening: opening a pipe would wait for its writer.
        let meta = std::fs::metadata(path)?;
        if !meta.is_file() {
            return Err(ReadError::NotAFile);
        }
        if meta.len() > limit {
            return Err(ReadError::TooLarge);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
        std::fs::File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit { Err(ReadError::TooLarge) } else { Ok(bytes) }
    }
}

/// Whether a name is that of an editor's or a package manager's leftover.
pub fn is_backup(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    name.starts_with(['.', '#'])
        || name.ends_with('~')
        || [".bak", ".orig", ".rej", ".swp", ".swo", ".swx", ".tmp", ".save", ".old"]
            .iter()
            .any(|suffix| name.ends_with(suffix))
        || [".dpkg-", ".rpmsave", ".rpmnew", ".ucf-"].iter().any(|part| name.contains(part))
}

/// What to load.
#[derive(Clone, Debug)]
pub struct Request {
    /// Files and globs, absolute or relative to the working folder.
    pub patterns: Vec<PathBuf>,
    /// The most bytes that all files together may have.
    pub max_size: u64,
}

/// A policy of a million keys has some 40 MB.
pub const DEFAULT_MAX_SIZE: u64 = 256 * 1024 * 1024;

/// Loads and compiles a policy.
pub fn load(request: &Request, store: &mut dyn Store, today: Day) -> Loaded {
    let mut loader = Loader {
        store,
        left: request.max_size,
        max_size: request.max_size,
        diagnostics: Diagnostics::default(),
        sources: Sources::default(),
        complete: true,
        passing: false,
    };

    let mut texts: Vec<(FileId, PathBuf, Arc<str>)> = Vec::new();
    for path in loader.expand(&request.patterns) {
        match loader.read(&path, None) {
            Some((file, text)) => texts.push((file, path, text)),
            None => loader.complete = false,
        }
    }

    let mut documents = Vec::with_capacity(texts.len());
    let tables: Vec<_> = texts
        .iter()
        .map(|(file, _, text)| {
            let (table, errors) = DeTable::parse_recoverable(text);
            let broken = !errors.is_empty();
            loader.complete &= !broken;
            tell_syntax(*file, &errors, &mut loader.diagnostics);
            (table, broken)
        })
        .collect();
    for ((file, _, _), (table, broken)) in texts.iter().zip(&tables) {
        // A broken file is told of as such; what the parser saved of it would only repeat the complaint.
        let document = if *broken {
            schema::Document::default()
        } else {
            schema::read(&mut Walk::new(*file, &mut loader.diagnostics), table.get_ref())
        };
        documents.push(document);
    }

    let mut list_texts = Vec::new();
    let mut position = 0;
    for ((_, path, _), document) in texts.iter().zip(&documents) {
        let folder = path.parent().unwrap_or(Path::new(""));
        for rule in &document.rules {
            for (side, list) in &rule.lists {
                let list_path = folder.join(list.value.as_ref());
                if let Some((file, text)) = loader.read(&list_path, Some(&list.place)) {
                    list_texts.push((position, *side, file, text));
                }
            }
            position += 1;
        }
    }
    let lists: Vec<List<'_>> = list_texts
        .iter()
        .map(|(rule, side, file, text)| List { rule: *rule, side: *side, file: *file, text })
        .collect();

    let policy = compile::compile(&documents, &lists, today, loader.complete, &mut loader.diagnostics);
    let policy = (!loader.diagnostics.has_errors()).then_some(policy);
    let policy_files = texts.len();
    let passing = loader.passing;
    Loaded { policy, diagnostics: loader.diagnostics, sources: loader.sources, policy_files, passing }
}

struct Loader<'l> {
    store: &'l mut dyn Store,
    left: u64,
    max_size: u64,
    diagnostics: Diagnostics,
    sources: Sources,
    /// Whether every policy file could be read and parsed: only then is something that is missing a fault.
    complete: bool,
    passing: bool,
}

impl Loader<'_> {
    fn note(&mut self, error: &ReadError) {
        self.passing |= matches!(error, ReadError::Io(error) if is_passing(error));
    }

    fn expand(&mut self, patterns: &[PathBuf]) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for pattern in patterns {
            match self.store.expand(pattern) {
                // A file that two patterns match is read once.
                Ok(found) => {
                    for path in found {
                        if !paths.contains(&path) {
                            paths.push(path);
                        }
                    }
                }
                Err(error) => {
                    self.complete = false;
                    self.note(&error);
                    let message = format!("cannot read {}: {error}", pattern.display());
                    self.diagnostics.push(Diagnostic::error("unreadable-file", message).in_file(pattern));
                }
            }
        }
        paths
    }

    fn read(&mut self, path: &Path, named_at: Option<&Place>) -> Option<(FileId, Arc<str>)> {
        let place = |mut diagnostic: Diagnostic| {
            diagnostic.place = named_at.cloned();
            diagnostic.in_file(path)
        };
        let bytes = match self.store.read(path, self.left) {
            Ok(bytes) => bytes,
            Err(ReadError::TooLarge) => {
                let message = format!(
                    "{} makes the policy larger than the {} bytes allowed",
                    path.display(),
                    self.max_size
                );
                let hint = "raise policy.max-size in the daemon's file, if it is meant to be so large";
                self.diagnostics.push(place(Diagnostic::error("too-large", message).hint(hint)));
                return None;
            }
            Err(error) => {
                self.note(&error);
                let message = format!("cannot read {}: {error}", path.display());
                self.diagnostics.push(place(Diagnostic::error("unreadable-file", message)));
                return None;
            }
        };
        self.left = self.left.saturating_sub(bytes.len() as u64);
        match String::from_utf8(bytes) {
            Ok(text) => {
                let text: Arc<str> = text.into();
                let file = self.sources.add(path.to_path_buf(), Arc::clone(&text));
                Some((file, text))
            }
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let line = error.as_bytes().iter().take(valid).filter(|b| **b == b'\n').count() + 1;
                let message = format!("{} is not UTF-8 text (line {line}, byte {valid})", path.display());
                self.diagnostics.push(
                    Diagnostic::error("not-utf8", message).in_file(path).hint("is this the right file?"),
                );
                None
            }
        }
    }
}
