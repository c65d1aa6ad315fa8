//! A file of what was measured elsewhere, or before, as lessons for a box.
//!
//! Duty: lines `SECONDS,VALUE` into samples at the box's pace, and those into pieces that a request has room for. Not
//! here: sending them.
//! Invariant: samples are without gaps and in order; where a line is wrong, nothing is sent.

use thiserror::Error;

use crate::api::types::Lesson;

/// Samples of one request: some ten bytes each, of the 8 KiB that a body may have.
const PER_REQUEST: usize = 600;
/// A model looks back over weeks at most.
const MOST_SAMPLES: usize = 100_000;

#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum LessonFault {
    #[error("{line}: expected SECONDS_SINCE_1970,VALUE, found \"{found}\"")]
    Line { line: usize, found: String },
    #[error("{line}: expected a later time than in the line before")]
    Order { line: usize },
    #[error("expected at least two lines SECONDS_SINCE_1970,VALUE")]
    Empty,
    #[error("expected at most {MOST_SAMPLES} samples, one in {sample_s} s, found {found}")]
    Long { found: u64, sample_s: u32 },
}

/// Each sample is the mean of what falls into its time, or what came last before it.
pub(super) fn read(text: &str, metric: &str, sample_s: u32) -> Result<Vec<Lesson>, LessonFault> {
    let points = points(text)?;
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Err(LessonFault::Empty) };
    if points.len() < 2 {
        return Err(LessonFault::Empty);
    }
    let step = u64::from(sample_s.max(1));
    let from = first.0 - first.0 % step;
    let count = (last.0 - from) / step + 1;
    let found = usize::try_from(count).ok().filter(|count| *count <= MOST_SAMPLES);
    let count = found.ok_or(LessonFault::Long { found: count, sample_s })?;
    let mut values = Vec::with_capacity(count);
    let (mut rest, mut known, mut end) = (points.iter().peekable(), first.1, from);
    for _ in 0..count {
        end += step;
        let (mut sum, mut number) = (0.0, 0.0);
        while let Some((_, value)) = rest.next_if(|(at, _)| *at < end) {
            (sum, number, known) = (sum + value, number + 1.0, *value);
        }
        values.push(if number > 0.0 { sum / number } else { known });
    }
    let mut from_s = from;
    let lessons = values.chunks(PER_REQUEST).map(|values| {
        let lesson = Lesson { metric: metric.to_owned(), from_s, values: values.to_vec() };
        from_s += step * values.len() as u64;
        lesson
    });
    Ok(lessons.collect())
}

fn points(text: &str) -> Result<Vec<(u64, f32)>, LessonFault> {
    let mut points: Vec<(u64, f32)> = Vec::new();
    for (place, text) in text.lines().enumerate() {
        let (line, text) = (place + 1, text.trim());
        match point(text) {
            Some((at, value)) => {
                if points.last().is_some_and(|(before, _)| *before >= at) {
                    return Err(LessonFault::Order { line });
                }
                points.push((at, value));
            }
            // The names of the columns, and the end of the file.
            None if place == 0 || text.is_empty() => {}
            None => return Err(LessonFault::Line { line, found: text.chars().take(40).collect() }),
        }
    }
    Ok(points)
}

fn point(line: &str) -> Option<(u64, f32)> {
    let (at, value) = line.split_once(',')?;
    // Some databases write fractions of seconds.
    let at = at.trim().split('.').next()?.parse().ok()?;
    let value: f32 = value.trim().parse().ok()?;
    value.is_finite().then_some((at, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_means_of_their_time_and_what_came_last_where_nothing_was_measured() {
        let text = "time,requests\n60,1\n90.5,3\n120,8\n360,2\n";
        let expected =
            Lesson { metric: "requests".to_owned(), from_s: 60, values: vec![2.0, 8.0, 8.0, 8.0, 8.0, 2.0] };
        assert_eq!(read(text, "requests", 60), Ok(vec![expected]));
    }

    #[test]
    fn a_long_past_comes_in_pieces_that_follow_each_other() {
        let text: String = (0..1500).map(|minute| format!("{},1\n", minute * 60)).collect();
        let lessons = read(&text, "requests", 60).unwrap();
        let pieces: Vec<_> = lessons.iter().map(|lesson| (lesson.from_s, lesson.values.len())).collect();
        assert_eq!(pieces, [(0, 600), (36_000, 600), (72_000, 300)]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let wrong = |text: &str| read(text, "requests", 60).unwrap_err().to_string();
        assert_eq!(wrong("a,b\n1,2\nx,3\n"), "3: expected SECONDS_SINCE_1970,VALUE, found \"x,3\"");
        assert_eq!(wrong("1,2\n2,nan\n"), "2: expected SECONDS_SINCE_1970,VALUE, found \"2,nan\"");
        assert_eq!(wrong("5,2\n5,3\n"), "2: expected a later time than in the line before");
        assert_eq!(wrong("time,value\n"), "expected at least two lines SECONDS_SINCE_1970,VALUE");
        let long = "expected at most 100000 samples, one in 60 s, found 166666667";
        assert_eq!(wrong("1,2\n9999999999,2\n"), long);
    }
}
