//! Where a log's bytes come from: a file or standard input, decompressed by what its first bytes say.
//!
//! Promises: the name of a file says nothing, its content does; what is packed takes a bounded amount of memory to
//! unpack. Must not: know what a line means.

use super::Fault;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

/// How a log was packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip, also several members.
    Gzip,
    /// xz.
    Xz,
    /// zstd.
    Zstd,
}

/// What the system says of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    /// Device and inode: the same file by whatever name. Only of regular files.
    pub(super) identity: Option<(u64, u64)>,
    /// Its bytes, as far as they can be known beforehand.
    pub(super) size: Option<u64>,
    /// When it was last written.
    pub(super) modified: Option<jiff::Timestamp>,
}

/// The name of standard input.
pub(super) fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Asks the system about a file, without opening it: opening a pipe would wait for its writer.
pub(super) fn meta(path: &Path) -> Result<Meta, Fault> {
    let nothing = Meta { identity: None, size: None, modified: None };
    if is_standard_input(path) {
        return Ok(nothing);
    }
    let meta = fs::metadata(path).map_err(Fault::Unreadable)?;
    if meta.is_dir() {
        return Err(Fault::Folder);
    }
    if !meta.is_file() {
        return Ok(nothing);
    }
    let modified = meta.modified().ok().and_then(|time| jiff::Timestamp::try_from(time).ok());
    Ok(Meta { identity: Some((meta.dev(), meta.ino())), size: Some(meta.len()), modified })
}

/// A log that is open.
pub(super) struct Source {
    pub(super) packing: Packing,
    bytes: Box<dyn Read>,
}

impl Source {
    /// Opens a log. `count` counts the bytes that are read, still packed.
    pub(super) fn open(path: &Path, count: &Rc<Cell<u64>>) -> Result<Self, Fault> {
        if is_standard_input(path) {
            return Self::unpack(io::stdin().lock(), count);
        }
        Self::unpack(File::open(path).map_err(Fault::Unreadable)?, count)
    }

    /// Puts bytes that were read already before the rest.
    pub(super) fn behind(self, head: Vec<u8>) -> Self {
        Self { packing: self.packing, bytes: Box::new(Cursor::new(head).chain(self.bytes)) }
    }

    fn unpack(mut packed: impl Read + 'static, count: &Rc<Cell<u64>>) -> Result<Self, Fault> {
        let mut magic = Vec::with_capacity(MAGIC);
        packed.by_ref().take(MAGIC as u64).read_to_end(&mut magic).map_err(Fault::Unreadable)?;
        let packing = packing(&magic)?;
        let whole = Counted { inner: Cursor::new(magic).chain(packed), count: Rc::clone(count) };
        let bytes: Box<dyn Read> = match packing {
            Packing::Plain => Box::new(whole),
            Packing::Gzip => {
                Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(PACKED, whole)))
            }
            Packing::Xz => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)
                    .map_err(|error| Fault::Unreadable(error.into()))?;
                Box::new(XzDecoder::new_stream(whole, stream))
            }
            Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(whole).map_err(Fault::Unreadable)?),
        };
        Ok(Self { packing, bytes })
    }
}

impl Read for Source {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(room)
    }
}

/// So many bytes tell how a file is packed.
const MAGIC: usize = 6;

/// Packed bytes are read in pieces of this size.
const PACKED: usize = 128 * 1024;

/// `xz -9` needs 65 MiB to unpack.
const XZ_MEMORY: u64 = 256 * 1024 * 1024;

fn packing(magic: &[u8]) -> Result<Packing, Fault> {
    match magic {
        [0x1f, 0x8b, ..] => Ok(Packing::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Ok(Packing::Xz),
        // A frame, or one to be skipped before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Packing::Zstd),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Err(Fault::Unsupported("bzip2", "bzip2 -dc")),
        [0x1f, 0x9d, ..] => Err(Fault::Unsupported("compress", "uncompress -c")),
        [0x04, 0x22, 0x4d, 0x18, ..] => Err(Fault::Unsupported("lz4", "lz4 -dc")),
        [b'P', b'K', 3, 4, ..] => Err(Fault::Unsupported("zip", "unzip -p")),
        _ => Ok(Packing::Plain),
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(room)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}
