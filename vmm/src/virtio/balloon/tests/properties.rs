//! Whatever a driver names: what the host gets is RAM that was named, whole pages, no byte twice, nothing left out.

use proptest::prelude::*;

use super::*;

fn index(page: u64) -> usize {
    usize::try_from(page).unwrap()
}

/// RAM of `testing::ram` as pages of 4 KiB.
fn is_ram(page: u64) -> bool {
    let at = page * PAGE;
    at < HOLE || (UPPER..testing::END).contains(&at)
}

/// Whether all of the host's page around `page` was named and is RAM.
fn is_whole(page: u64, granule: u64, named: &[bool]) -> bool {
    let parts = granule / PAGE;
    let first = page / parts * parts;
    (first..first + parts).all(|page| is_ram(page) && named.get(index(page)).is_some_and(|named| *named))
}

/// Pages in and around RAM, in runs and alone.
fn names() -> impl Strategy<Value = Vec<u32>> {
    let run = (0u32..2700, 1u32..80, any::<bool>()).prop_map(|(first, count, down)| {
        let run = first..first + count;
        if down { run.rev().collect::<Vec<_>>() } else { run.collect() }
    });
    prop::collection::vec(run, 1..12).prop_map(|runs| runs.concat())
}

fn check(taken: &[(u64, u64)], named: &[bool], granule: u64) -> Result<(), TestCaseError> {
    let mut got = vec![false; named.len()];
    for &(start, end) in taken {
        prop_assert!(start.is_multiple_of(granule) && end.is_multiple_of(granule));
        prop_assert!(!(start < SEAM && end > SEAM), "one mapping of the host each");
        for page in start / PAGE..end / PAGE {
            prop_assert!(!std::mem::replace(&mut got[index(page)], true), "twice: {page}");
        }
    }
    for (page, got) in (0u64..).zip(got) {
        prop_assert_eq!(got, is_whole(page, granule, named), "{}", page);
    }
    Ok(())
}

proptest! {
    #[test]
    fn lists_of_any_order_go_back_as_they_should(names in names(), granule in prop::sample::select(vec![4u64, 16, 64])) {
        let granule = granule << 10;
        let mut rig = Rig::with(Some(granule), ALL, 64);
        let mut named = vec![false; 3000];
        for name in &names {
            named[index((*name).into())] = true;
        }
        rig.list(INFLATE, names.iter().copied());
        prop_assert_eq!(rig.notify(INFLATE), Ok(Backlog::Done));
        let taken = rig.taken();
        check(&taken, &named, granule)?;
        // No more requests than there are runs, of which the seam cuts one at most.
        let runs = named.windows(2).filter(|pair| !pair[0] && pair[1]).count() + usize::from(named[0]);
        prop_assert!(taken.len() <= runs + 1, "{} of {}", taken.len(), runs);
    }

    #[test]
    fn blocks_of_any_place_and_length_go_back_as_they_should(
        blocks in prop::collection::vec((0u64..2560, 1u64..300), 1..20), granule in prop::sample::select(vec![4u64, 16, 64])
    ) {
        let granule = granule << 10;
        let mut rig = Rig::with(Some(granule), ALL, 64);
        let mut named = vec![false; 3000];
        // The ring refuses what is not RAM, or is its own.
        let clear = |page: u64| is_ram(page) && !(16..48).contains(&page);
        let blocks: Vec<(u64, u64)> =
            blocks.into_iter().filter(|&(at, pages)| (at..at + pages).all(clear)).map(|(at, pages)| (at * PAGE, pages * PAGE)).collect();
        prop_assume!(!blocks.is_empty());
        for &(at, bytes) in &blocks {
            named[index(at / PAGE)..index((at + bytes) / PAGE)].fill(true);
        }
        rig.report(&blocks);
        prop_assert_eq!(rig.notify(REPORTING), Ok(Backlog::Done));
        check(&rig.taken(), &named, granule)?;
    }

    #[test]
    fn no_access_to_the_configuration_space_does_harm(
        accesses in prop::collection::vec((any::<u64>().prop_map(|at| if at % 2 == 0 { at } else { at % 12 }), prop::collection::vec(any::<u8>(), 0..9), any::<bool>()), 1..50)
    ) {
        let mut rig = Rig::new();
        rig.device.set_target(2).unwrap();
        let mut actual = [0u8; 4];
        for (at, mut data, write) in accesses {
            if write {
                for (place, byte) in data.iter().enumerate() {
                    if let Some(place @ 4..8) = at.checked_add(place as u64) {
                        actual[index(place) - 4] = *byte;
                    }
                }
                rig.device.write_config(at, &data);
            } else {
                rig.device.read_config(at, &mut data);
            }
            prop_assert_eq!(rig.config(), [512, u32::from_le_bytes(actual)]);
        }
    }
}
