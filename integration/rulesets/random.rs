//! Chance that can be had again: splitmix64, from a seed that every failure shows.

use crate::rig::Result;

/// The variable that holds another seed.
pub(crate) const VARIABLE: &str = "ENCR_MILTER_SEED";
/// Where it holds none, every run is the same.
const SEED: u64 = 8_171;

/// The seed of this run.
pub(crate) fn seed() -> Result<u64> {
    match std::env::var(VARIABLE) {
        Ok(text) => text.parse().map_err(|e| format!("{VARIABLE}={text}: {e}")),
        Err(_) => Ok(SEED),
    }
}

pub(crate) struct Random(u64);

impl Random {
    /// Its own sequence for each number, so that one round can be had without those before it.
    pub(crate) fn new(seed: u64, number: u64) -> Random {
        let mut random = Random(seed);
        let start = random.next();
        Random(start ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, and without, this.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % end).unwrap_or_default()
    }

    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from.get(self.below(from.len())).copied().unwrap_or_default()
    }
}
