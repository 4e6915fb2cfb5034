//! The same decision by tokio alone: frames taken apart by hand, one thread, nothing logged. What is left where a milter
//! does nothing but its job.
//!
//! Must not: share code with the daemon; it is what that is held against.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;

use foldhash::fast::FixedState;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use crate::servers::{MIN_BITS, RULE};

const MACROS: &str = "{client_addr} {client_name} {client_resolve} {cipher_bits} {auth_type} {auth_ssf}";
/// No connection, HELO, DATA, headers, their end, body, unknown commands.
const LEFT_OUT: u32 = 0x1 | 0x2 | 0x200 | 0x20 | 0x40 | 0x10 | 0x100;
const LONGEST: usize = 1 << 20;

struct List {
    names: HashSet<Box<[u8]>, FixedState>,
}

/// Serves until it is killed, on a path, or on an address with a port.
pub(crate) fn serve(place: &str, list: &Path) {
    let text = std::fs::read(list).unwrap();
    let names = text.split(|byte| *byte == b'\n').filter(|name| !name.is_empty()).map(Into::into).collect();
    // It lives as long as the process does.
    let list: &'static List = Box::leak(Box::new(List { names }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async move {
        if let Ok(address) = place.parse::<SocketAddr>() {
            let listener = TcpListener::bind(address).await.unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, list));
            }
        } else {
            let listener = UnixListener::bind(place).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, list));
            }
        }
    });
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, list: &List) {
    let (mut input, mut output) = (Vec::with_capacity(1024), Vec::with_capacity(256));
    let (mut bits, mut weak) = (None, None);
    loop {
        if !matches!(stream.read_buf(&mut input).await, Ok(1..)) {
            return;
        }
        let mut taken = 0;
        while let Some((head, rest)) = input[taken..].split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*head) as usize;
            if length == 0 || length > LONGEST {
                return;
            }
            let Some((kind, payload)) = rest.get(..length).and_then(<[u8]>::split_first) else { break };
            taken += 4 + length;
            match kind {
                b'O' => negotiate(&mut output),
                b'D' if payload.first() == Some(&b'M') => bits = list.demands(&payload[1..]),
                b'M' => {
                    weak = bits.take();
                    put(&mut output, if weak.is_some() { b'c' } else { b'a' }, b"");
                }
                b'R' => match weak {
                    Some(bits) if !payload.to_ascii_lowercase().starts_with(b"<postmaster@") => {
                        refuse(bits, &mut output);
                    }
                    _ => put(&mut output, b'c', b""),
                },
                b'E' => {
                    weak = None;
                    put(&mut output, b'a', b"");
                }
                b'A' => weak = None,
                b'D' | b'K' => {}
                b'Q' => return,
                _ => put(&mut output, b'c', b""),
            }
        }
        input.drain(..taken);
        if !output.is_empty() {
            if stream.write_all(&output).await.is_err() {
                return;
            }
            output.clear();
        }
    }
}

fn put(output: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    output.extend_from_slice(&u32::try_from(payload.len() + 1).unwrap().to_be_bytes());
    output.push(kind);
    output.extend_from_slice(payload);
}

fn negotiate(output: &mut Vec<u8>) {
    let mut payload: Vec<u8> = [6, 0, LEFT_OUT].into_iter().flat_map(u32::to_be_bytes).collect();
    for stage in 0..7u32 {
        payload.extend(stage.to_be_bytes());
        if stage == 2 {
            payload.extend_from_slice(MACROS.as_bytes());
        }
        payload.push(0);
    }
    put(output, b'O', &payload);
}

fn refuse(bits: u32, output: &mut Vec<u8>) {
    let text = match bits {
        0 => {
            format!("550 5.7.10 encryption needed, STARTTLS with at least {MIN_BITS} bits, rule {RULE}\0")
        }
        bits => format!("554 5.7.0 encryption too weak {bits} less than {MIN_BITS}, rule {RULE}\0"),
    };
    put(output, b'y', text.as_bytes());
}

impl List {
    /// The bits of one who has too few; nothing of others.
    fn demands(&self, macros: &[u8]) -> Option<u32> {
        let (mut name, mut resolved, mut local, mut authenticated) = (b"".as_slice(), false, false, false);
        let mut bits = 0;
        let mut strings = macros.split(|byte| *byte == 0);
        while let (Some(macro_name), Some(value)) = (strings.next(), strings.next()) {
            match macro_name {
                b"{client_name}" => name = value,
                b"{client_resolve}" => resolved = value == b"OK",
                b"{client_addr}" => local = value.starts_with(b"127."),
                b"{cipher_bits}" | b"{auth_ssf}" => {
                    let number = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
                    bits = bits.max(number.unwrap_or(0));
                }
                b"{auth_type}" => authenticated = !value.is_empty(),
                _ => {}
            }
        }
        if bits >= MIN_BITS || local || authenticated || !resolved {
            return None;
        }
        let mut lower = [0; 256];
        let name = &name[..name.len().min(lower.len())];
        lower[..name.len()].copy_from_slice(name);
        lower.make_ascii_lowercase();
        let mut rest = &lower[..name.len()];
        loop {
            if self.names.contains(rest) {
                return Some(bits);
            }
            let dot = rest.iter().position(|byte| *byte == b'.')?;
            rest = &rest[dot + 1..];
        }
    }
}
