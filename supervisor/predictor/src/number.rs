//! Arithmetic that has no surprises.
//!
//! Duty: tame what comes in, and the few functions and conversions that the language's core lacks or that lose
//! something. Not here: anything with a meaning. Invariant: what `tame` lets through can be squared and summed in
//! every model without becoming infinite.

/// The largest magnitude that models see. Its square times a thousand is still a finite `f32`.
pub(crate) const LARGEST: f32 = 1e15;

/// A number that models may see. NaN and infinities are no numbers; what is too large is cut.
pub(crate) fn tame(value: f32) -> Option<f32> {
    value.is_finite().then(|| value.clamp(-LARGEST, LARGEST))
}

/// One step of an average with exponentially fading memory, that begins as the plain average.
#[inline]
pub(crate) fn blend(old: f32, new: f32, count: u32, span: f32) -> f32 {
    old + (new - old) * rate(count, span)
}

/// The weight of the newest of `count` values in an average over about `span`.
#[inline]
pub(crate) fn rate(count: u32, span: f32) -> f32 {
    let known = real(count) + 1.0;
    // Spans are constants, and so are their inverses.
    if known >= span { 1.0 / span.max(1.0) } else { 1.0 / known }
}

/// Exact up to 2^24, near enough above.
#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^24 are only ever divided by")]
pub(crate) fn real(count: u32) -> f32 {
    count as f32
}

/// The whole part of a number, cut to `0..=most`; NaN is 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, and NaN becomes 0"
)]
pub(crate) fn whole(value: f32, most: u32) -> u32 {
    (value as u32).min(most)
}

/// An index from a count. No target has less than 32 bits.
pub(crate) fn index(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// A count from a length that some constant bounds.
pub(crate) fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The root of the magnitude with the sign kept: counts vary with the root of their level, so the root varies
/// alike at every level.
pub(crate) fn signed_root(value: f32) -> f32 {
    libm::copysignf(libm::sqrtf(value.abs()), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_none_and_what_is_too_large_is_cut() {
        assert_eq!(tame(f32::NAN), None);
        assert_eq!(tame(f32::INFINITY), None);
        assert_eq!(tame(f32::MAX), Some(LARGEST));
        assert!((LARGEST * LARGEST * 1000.0).is_finite());
    }

    #[test]
    fn an_average_begins_plain_and_then_forgets() {
        let mut average = 0.0;
        for (count, value) in [3.0, 5.0, 7.0].into_iter().enumerate() {
            average = blend(average, value, super::count(count), 100.0);
        }
        assert!((average - 5.0).abs() < 1e-6);
        assert!((rate(1_000_000, 50.0) - 0.02).abs() < 1e-9);
    }

    #[test]
    fn whole_saturates() {
        assert_eq!(whole(f32::NAN, 9), 0);
        assert_eq!(whole(-4.0, 9), 0);
        assert_eq!(whole(f32::INFINITY, 9), 9);
        assert_eq!(whole(3.99, 9), 3);
    }
}
