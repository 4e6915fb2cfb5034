//! What the parts of an answer, a reload and a replay take: `cargo bench --bench parts`, or some of them by name,
//! `cargo bench --bench parts -- decide`.
//!
//! Criterion times them; its figures stay in target/criterion, and what has changed since the run before is told. Where a
//! machine is too busy for times, `counts.rs` counts.

// A benchmark may stop at once where something is not as it should be.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code, reason = "others hold results against the truth")]
mod generated_logs;
#[allow(dead_code, reason = "what is counted only")]
mod work;

use criterion::{Criterion, SamplingMode, Throughput};
use std::time::Duration;

const SIZES: [usize; 3] = [10, 100_000, 1_000_000];

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for mut work in work::all(folder.path(), &SIZES) {
        // "decide, pass, 10 keys" is the first of the group "decide".
        let (group, name) = work.name.split_once(", ").unwrap_or((&work.name, ""));
        let mut group = criterion.benchmark_group(group);
        if let Some(bytes) = work.bytes {
            group.throughput(Throughput::Bytes(bytes)).sample_size(10).sampling_mode(SamplingMode::Flat);
        }
        let mut n = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                n += 1;
                (work.run)(n);
            });
        });
        group.finish();
    }
    criterion.final_summary();
}
