//! On the way between an MTA and the daemon: everything is handed on, and what the MTA said is kept.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::Result;

/// What the MTA said so far, on all connections, one after another.
#[derive(Clone, Default)]
pub(crate) struct Tapped(Arc<Mutex<Vec<u8>>>);

impl Tapped {
    /// All frames that are whole.
    pub(crate) fn frames(&self) -> Vec<Frame> {
        frames(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Listens where the MTA connects, hands everything on to the daemon and back, and keeps what the MTA said.
pub(crate) fn tap(socket: &Path, daemon: &Path) -> Result<Tapped> {
    let failed = |e: std::io::Error| format!("{}: {e}", socket.display());
    let listener = UnixListener::bind(socket).map_err(failed)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).map_err(failed)?;
    let (tapped, daemon) = (Tapped::default(), daemon.to_owned());
    let kept = tapped.clone();
    thread::spawn(move || {
        for mta in listener.incoming().flatten() {
            let (Ok(there), Ok(back)) = (UnixStream::connect(&daemon), mta.try_clone()) else { return };
            let Ok(answers) = there.try_clone() else { return };
            let kept = kept.clone();
            thread::spawn(move || {
                pass(mta, there, |bytes| {
                    kept.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
                });
            });
            thread::spawn(move || pass(answers, back, |_| {}));
        }
    });
    Ok(tapped)
}

fn pass(mut from: UnixStream, mut to: UnixStream, mut see: impl FnMut(&[u8])) {
    let mut bytes = vec![0; 4096];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        let piece = bytes.get(..length).unwrap_or_default();
        see(piece);
        if to.write_all(piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// One frame: its letter, and what follows it.
pub(crate) struct Frame {
    pub(crate) kind: char,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The value of a macro, where the frame tells macros of this stage.
    pub(crate) fn told(&self, stage: char, name: &str) -> Option<String> {
        let (first, rest) = self.payload.split_first()?;
        let mut strings =
            rest.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
        if self.kind != 'D' || char::from(*first) != stage {
            return None;
        }
        while let (Some(known), Some(value)) = (strings.next(), strings.next()) {
            if known == name {
                return Some(value);
            }
        }
        None
    }

    /// Whether it tells macros of this stage.
    pub(crate) fn is_macros(&self, stage: char) -> bool {
        self.kind == 'D' && self.payload.first().copied().map(char::from) == Some(stage)
    }
}

fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let Some((frame, rest)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
        if let Some((kind, payload)) = frame.split_first() {
            frames.push(Frame { kind: char::from(*kind), payload: payload.to_vec() });
        }
        bytes = rest;
    }
    frames
}
