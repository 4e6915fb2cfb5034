//! What the fuzz targets share: files in memory, a world without clocks and sockets, connections made of pieces, and
//! the promises that everything we say is held against.
//!
//! A target takes any bytes and asserts what must hold of every input; that nothing panics is the least of it. Where
//! the program promises something, the check stands here once.

pub mod check;
pub mod files;
pub mod memory;
pub mod policies;
pub mod session;
pub mod text;
pub mod wire;
pub mod world;

/// The day of all targets' world: 2026-11-22.
pub const TODAY: encr_milter::policy::Day = encr_milter::policy::Day(20_779);

/// The time of all targets' world, on that day.
pub fn now() -> jiff::Timestamp {
    // Two in the morning; far from both ends of a day.
    jiff::Timestamp::from_second(20_779 * 86_400 + 7_649).expect("a time stamp of this century")
}
