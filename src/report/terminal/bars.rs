//! Shares and days, drawn in characters.

use crate::report::strength::Strength;

/// Columns of days, from nothing to all.
const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A bar of so many characters, shared out by the counts. Whatever is there at all is seen.
pub(super) fn stacked(parts: &[(Strength, u64)], width: usize) -> String {
    let total: u64 = parts.iter().map(|(_, count)| count).sum();
    if total == 0 {
        return String::new();
    }
    let exact = |count: u64| u128::from(count) * width as u128;
    let mut cells: Vec<usize> = parts
        .iter()
        .map(|(_, count)| usize::try_from(exact(*count) / u128::from(total)).unwrap_or(width))
        .zip(parts)
        .map(|(cells, (_, count))| if *count > 0 { cells.max(1) } else { 0 })
        .collect();
    loop {
        let used: usize = cells.iter().sum();
        // To whom the most is owed, or who has the most too much.
        let owed = |(place, cells): (usize, &usize)| {
            let count = parts.get(place).map_or(0, |(_, count)| *count);
            i128::try_from(exact(count)).unwrap_or(i128::MAX) - (*cells as i128) * i128::from(total)
        };
        let there = cells.iter().enumerate().filter(|(_, cells)| **cells > 0);
        let place = match used.cmp(&width) {
            std::cmp::Ordering::Equal => break,
            std::cmp::Ordering::Less => there.max_by_key(|part| owed(*part)).map(|(place, _)| place),
            std::cmp::Ordering::Greater => {
                there.filter(|(_, cells)| **cells > 1).min_by_key(|part| owed(*part)).map(|(place, _)| place)
            }
        };
        let Some(cell) = place.and_then(|place| cells.get_mut(place)) else { break };
        if used < width { *cell += 1 } else { *cell -= 1 }
    }
    parts
        .iter()
        .zip(cells)
        .flat_map(|((strength, _), cells)| std::iter::repeat_n(strength.block(), cells))
        .collect()
}

/// What the characters of [`stacked`] stand for.
pub(super) fn legend() -> String {
    let part = |strength: Strength| format!("{} {}", strength.block(), strength.label());
    Strength::ALL.map(part).join("   ")
}

/// One column for each of these counts, the highest the largest. Whatever is there at all is seen.
pub(super) fn columns(counts: &[u64]) -> String {
    let most = counts.iter().copied().max().unwrap_or_default().max(1);
    let height = |count: &u64| {
        let step = u128::from(*count) * 8 / u128::from(most);
        let step = usize::try_from(step).unwrap_or(8).max(usize::from(*count > 0));
        HEIGHTS.get(step).copied().unwrap_or(' ')
    };
    counts.iter().map(height).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(counts: [u64; 5], width: usize) -> String {
        let parts: Vec<_> = Strength::ALL.into_iter().zip(counts).collect();
        stacked(&parts, width)
    }

    #[test]
    fn a_bar_is_shared_out_and_hides_nothing() {
        for (counts, drawn) in [
            ([0, 0, 0, 0, 0], ""),
            ([0, 0, 0, 7, 0], "██████████"),
            ([1, 0, 0, 1, 0], "·····█████"),
            ([1, 1, 0, 1_000_000, 0], "·░████████"),
            ([1, 1, 1, 1, u64::MAX / 2], "·░▒█??????"),
            ([333, 333, 334, 0, 0], "···░░░▒▒▒▒"),
        ] {
            assert_eq!(bar(counts, 10), drawn, "{counts:?}");
        }
        assert_eq!(bar([1, 1, 1, 1, 1], 5), "·░▒█?");
    }

    #[test]
    fn a_day_with_anything_in_it_is_seen() {
        assert_eq!(columns(&[0, 1, 400, 800]), " ▁▄█");
        assert_eq!(columns(&[0, 0]), "  ");
        assert_eq!(columns(&[]), "");
    }
}
