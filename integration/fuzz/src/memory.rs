//! How much memory an input takes: a promise of every parser is that this does not grow faster than the input.

use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What every input may take beside its own size: tables, buffers, the regular expressions and lists that are made once.
const AT_LEAST: usize = 8 << 20;

/// Runs something on an input of so many bytes. It must not take more than so many times the input at its peak.
pub fn bounded<T>(input: usize, times: usize, run: impl FnOnce() -> T) -> T {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let result = run();
    let taken = HEAP.peak_usage().saturating_sub(before);
    let allowed = AT_LEAST + input * times;
    assert!(taken <= allowed, "{taken} bytes of memory for an input of {input}; {allowed} are allowed");
    result
}
