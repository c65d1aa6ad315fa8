//! The card's own address, where the configuration names none.

use hearth_config::vm::Mac;

/// An address that follows from the names of interface and card: the same guest keeps it over restarts, and a
/// guest with two cards has two. Locally administered, one station.
#[must_use]
pub fn derived(tap: &str, id: &str) -> Mac {
    // FNV-1a, 64 bits: spreads well over short names.
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = tap.bytes().chain([0]).chain(id.bytes());
    let hash = bytes.fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    let [a, b, c, d, e, f, high, higher] = hash.to_le_bytes();
    // The two bytes left over are mixed in, and the two lowest bits of the first octet say what it is.
    Mac([(a ^ high) & 0xfc | 0x02, b ^ higher, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_of_one_station_stable_and_different_per_card() {
        let first = derived("tap0", "lan");
        // Written down: a new release must not give old guests new addresses.
        assert_eq!(first.to_string(), "52:37:c7:1d:63:72");
        assert_ne!(first, derived("tap1", "lan"));
        assert_ne!(first, derived("tap0", "wan"));
        assert_ne!(derived("a", "bc"), derived("ab", "c"));
        for index in 0..1000 {
            let Mac([first, ..]) = derived("tap0", &index.to_string());
            assert_eq!(first & 3, 2);
        }
    }
}
