//! A checksum of memory that does not care how a file lays it out.
//!
//! Duty: tell a memory that was altered from one that was not. Not its duty: resisting somebody who alters it on
//! purpose; whoever may write a snapshot may write all of it.
//!
//! Each page that is not all zeroes has a sum of its place and its content, and the sums are added up. So a hole, a
//! page of zeroes and a page that was never written are the same, pages may be looked at in any order, and a word
//! costs two operations: memory is summed about as fast as it is read.
//!
//! Invariant: every step maps different inputs to different outputs (multiplication by an odd number, exclusive or,
//! rotation), so a change of a single word of a page always changes the page's sum.

/// Bytes of a page here, whatever pages the host has.
pub const PAGE: usize = 4096;

/// Odd, and with as many ones as zeroes: the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// Words that are summed apart from each other, so that a processor works on all of them at once.
const LANES: usize = 4;

const fn mix(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(FACTOR).rotate_left(29)
}

/// The sum of some words in their order.
#[must_use]
pub fn of_words(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(FACTOR, mix)
}

/// The sum of page number `number`; zero for one of zeroes.
#[must_use]
pub fn of_page(number: u64, page: &[u8; PAGE]) -> u64 {
    let mut lanes = [number, !number, number.rotate_left(32), FACTOR];
    let mut any = 0;
    for words in page.as_chunks::<{ LANES * 8 }>().0 {
        for (lane, word) in lanes.iter_mut().zip(words.as_chunks::<8>().0) {
            let word = u64::from_le_bytes(*word);
            any |= word;
            *lane = mix(*lane, word);
        }
    }
    if any == 0 { 0 } else { of_words(lanes.into_iter()) }
}

/// Adds up the pages of `bytes`, the first of which has this number. What is no whole page is filled up with zeroes.
#[must_use]
pub fn of_pages(first: u64, bytes: &[u8]) -> u64 {
    let (pages, rest) = bytes.as_chunks::<PAGE>();
    let mut sum =
        (first..).zip(pages).fold(0u64, |sum, (number, page)| sum.wrapping_add(of_page(number, page)));
    if !rest.is_empty() {
        let mut last = [0; PAGE];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        sum = sum.wrapping_add(of_page(first.wrapping_add(pages.len() as u64), &last));
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zeroes_are_as_good_as_nothing_and_places_count() {
        assert_eq!(of_pages(7, &[0; 3 * PAGE]), 0);
        assert_eq!(of_pages(7, &[]), 0);
        let page = [1; PAGE];
        assert_ne!(of_page(0, &page), of_page(1, &page));
        let (mut two, mut swapped) = ([0; 2 * PAGE], [0; 2 * PAGE]);
        two[..PAGE].fill(1);
        swapped[PAGE..].fill(1);
        assert_ne!(of_pages(0, &two), of_pages(0, &swapped));
        assert_eq!(of_pages(0, &two), of_page(0, &page));
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let bytes: Vec<u8> = (0..5 * PAGE + 100).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let (low, high) = bytes.split_at(2 * PAGE);
        assert_eq!(of_pages(0, &bytes), of_pages(0, low).wrapping_add(of_pages(2, high)));
    }

    proptest! {
        #[test]
        fn one_bit_that_changes_is_seen(number in any::<u64>(), place in 0..PAGE, bit in 0u8..8, fill in any::<u8>()) {
            let mut page = [fill; PAGE];
            page[17] ^= 0x40;
            let before = of_page(number, &page);
            page[place] ^= 1u8 << bit;
            prop_assert_ne!(before, of_page(number, &page));
        }
    }
}
