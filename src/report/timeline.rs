//! Days in a row, those without a decision too, in as many steps as can be drawn.

use crate::evidence::questions::events::{DayFates, Fates};
use crate::policy::Day;

/// One step of a timeline.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Its first day.
    pub(super) first: Day,
    /// Its last day.
    pub(super) last: Day,
    /// What happened.
    pub(super) fates: Fates,
}

/// The days in order, in `most` steps at the most, all of the same length but the last.
pub(super) fn timeline(days: &[DayFates], most: usize) -> Vec<Step> {
    let days: Vec<(Day, Fates)> =
        days.iter().filter_map(|day| Some((Day::parse(&day.day)?, day.fates))).collect();
    let (Some((first, _)), Some((last, _))) = (days.first(), days.last()) else { return Vec::new() };
    let most = i64::try_from(most).unwrap_or(i64::MAX).max(1);
    let length = (last.0 - first.0) / most + 1;
    let mut steps: Vec<Step> = Vec::new();
    let mut begin = first.0;
    while begin <= last.0 {
        let end = last.0.min(begin + length - 1);
        steps.push(Step { first: Day(begin), last: Day(end), fates: Fates::default() });
        begin += length;
    }
    for (day, fates) in &days {
        let place = usize::try_from((day.0 - first.0) / length).unwrap_or_default();
        if let Some(step) = steps.get_mut(place) {
            step.fates.add(*fates);
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(numbers: &[(i64, u64)]) -> Vec<DayFates> {
        let day = |(day, refused): &(i64, u64)| DayFates {
            day: Day(*day).to_string(),
            messages: 10,
            fates: Fates { refused: *refused, ..Fates::default() },
        };
        numbers.iter().map(day).collect()
    }

    fn steps(days: &[DayFates], most: usize) -> Vec<(i64, i64, u64)> {
        let told = |step: Step| (step.first.0, step.last.0, step.fates.refused);
        timeline(days, most).into_iter().map(told).collect()
    }

    #[test]
    fn days_without_a_decision_are_there_too() {
        assert_eq!(
            steps(&days(&[(20_000, 1), (20_003, 5)]), 10),
            [(20_000, 20_000, 1), (20_001, 20_001, 0), (20_002, 20_002, 0), (20_003, 20_003, 5)]
        );
        assert_eq!(steps(&[], 10), []);
    }

    #[test]
    fn many_days_are_taken_together() {
        let many: Vec<(i64, u64)> = (20_000..20_010).map(|day| (day, 1)).collect();
        assert_eq!(
            steps(&days(&many), 4),
            [(20_000, 20_002, 3), (20_003, 20_005, 3), (20_006, 20_008, 3), (20_009, 20_009, 1)]
        );
        let far = days(&[(0, 1), (100_000_000, 1)]);
        assert!(timeline(&far, 100).len() <= 100);
    }
}
