//! RAM of every kind and size: mapped, touched, given back.

use vm_memory::Bytes;

use super::*;

const MIB: usize = 1 << 20;

/// Writes to each page of the host in a range.
fn touch(ram: &GuestRam, start: u64, bytes: usize) {
    for offset in (0..bytes).step_by(host_page()) {
        ram.write_obj(0xa5u8, GuestAddress(start + offset as u64)).unwrap();
    }
}

#[test]
fn memory_is_zeroed_and_bounded_by_its_ranges() {
    let ram = allocate(&[(GuestAddress(0), 1 << 20), (GuestAddress(1 << 32), 1 << 20)]).unwrap();
    assert_eq!(ram.read_obj::<u64>(GuestAddress(0xffff8)).unwrap(), 0);
    assert!(ram.read_obj::<u64>(GuestAddress(0xffffc)).is_err());
    assert_eq!(ram.last_addr(), GuestAddress((1 << 32) + (1 << 20) - 1));
}

#[test]
fn overlapping_ranges_are_refused() {
    let ranges = [(GuestAddress(0), 2 * MIB), (GuestAddress(MIB as u64), 2 * MIB)];
    assert!(matches!(allocate(&ranges), Err(MemoryError::Layout)));
}

#[test]
fn ranges_that_are_not_whole_pages_of_the_host_are_refused() {
    for page in [4 << 10, 16 << 10, 64 << 10] {
        assert!(check_whole_pages(GuestAddress(page as u64), MIB, page).is_ok());
        let wrong = [(page as u64 / 2, MIB), (0, MIB + page / 2), (0, 0)];
        for (start, size) in wrong {
            let refused = check_whole_pages(GuestAddress(start), size, page);
            assert!(matches!(refused, Err(MemoryError::PartOfAPage { .. })), "{start:#x} {size:#x}");
        }
    }
    assert!(allocate(&[(GuestAddress(0), host_page() / 2)]).is_err());
}

#[test]
fn sixty_four_gib_take_no_more_of_the_host_than_is_touched() {
    if std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap().trim() == "2" {
        // Such a host counts promises, and refuses this one if it has not that much memory.
        return;
    }
    let ram = allocate(&crate::arch::ram_ranges(64 << 30)).unwrap();
    assert_eq!(ram.iter().map(GuestMemoryRegion::len).sum::<u64>(), 64 << 30);
    assert_eq!(in_use(&ram).unwrap(), 0);
    let first = ram.iter().next().unwrap().start_addr();
    for place in [first, GuestAddress(ram.last_addr().raw_value() & !7)] {
        ram.write_obj(7u64, place).unwrap();
        assert_eq!(ram.read_obj::<u64>(place).unwrap(), 7);
    }
    assert!((2 * host_page() as u64..=4 * MIB as u64).contains(&in_use(&ram).unwrap()));
}

#[test]
fn memory_in_use_is_what_was_touched_and_not_given_back() {
    let upper = 1 << 32;
    let ram = allocate(&[(GuestAddress(0), 32 * MIB), (GuestAddress(upper), 600 * MIB)]).unwrap();
    let lender = Lender::new(&ram);
    assert_eq!(in_use(&ram).unwrap(), 0);
    touch(&ram, 0, 32 * MIB);
    // Around the place where the second question begins.
    touch(&ram, upper + (255 << 20), 2 * MIB);
    assert_eq!(in_use(&ram).unwrap(), 34 << 20);
    lender.give_back(GuestAddress(4 << 20), 8 << 20).unwrap();
    lender.give_back(GuestAddress(upper + (256 << 20)), 1 << 20).unwrap();
    assert_eq!(in_use(&ram).unwrap(), 25 << 20);
    assert_eq!(ram.read_obj::<u8>(GuestAddress((4 << 20) - host_page() as u64)).unwrap(), 0xa5);
    assert_eq!(ram.read_obj::<u8>(GuestAddress(4 << 20)).unwrap(), 0);
    touch(&ram, 4 << 20, MIB);
    assert_eq!(in_use(&ram).unwrap(), 26 << 20);
}

#[test]
fn nothing_is_given_back_but_whole_pages_of_ram() {
    let ram = allocate(&[(GuestAddress(0), MIB), (GuestAddress(2 << 20), MIB)]).unwrap();
    touch(&ram, 0, MIB);
    touch(&ram, 2 << 20, MIB);
    let lender = Lender::new(&ram);
    let page = host_page() as u64;
    assert_eq!(lender.granule(), Some(page));
    let wrong = [
        (1 << 20, page),
        (3 << 20, page),
        (u64::MAX - page + 1, page),
        (0, 0),
        (0, u64::MAX - page + 1),
        (page, 1 << 20),
        (page / 2, page),
        (0, page / 2),
        (0, 3 << 20),
    ];
    for (start, bytes) in wrong {
        assert!(lender.give_back(GuestAddress(start), bytes).is_err(), "{start:#x} {bytes:#x}");
    }
    assert_eq!(in_use(&ram).unwrap(), 2 << 20);
}

#[test]
fn a_pool_of_huge_pages_that_is_too_small_is_told_with_what_to_do() {
    let (whole, part) = (64 << 30, 1 << 30);
    let free = free_huge_pages();
    if free >= whole / HUGE_PAGE {
        return;
    }
    let ranges = [(GuestAddress(0), part), (GuestAddress(1 << 32), whole - part)];
    let error = allocate_of(Pages::Huge, &ranges).unwrap_err();
    assert_eq!(error.key(), Some("machine.huge_pages"));
    assert_eq!(
        error.to_string(),
        format!(
            "expected 32768 free huge pages of 2 MiB on the host, found {free}: add {} to \
             /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            32768 - free
        )
    );
    assert_eq!(free_huge_pages(), free, "nothing stays reserved");
}

#[test]
fn huge_pages_are_reserved_from_the_start_and_never_given_back() {
    let free = free_huge_pages();
    if free < 4 {
        // A host without a pool: see the test above.
        return;
    }
    let ram = allocate_of(Pages::Huge, &[(GuestAddress(0), 2 * HUGE_PAGE)]).unwrap();
    assert_eq!(free_huge_pages(), free - 2);
    touch(&ram, 0, HUGE_PAGE);
    assert_eq!(in_use(&ram).unwrap(), HUGE_PAGE as u64);
    let lender = Lender::new(&ram);
    assert_eq!(lender.granule(), None);
    assert!(lender.give_back(GuestAddress(0), HUGE_PAGE as u64).is_err());
    assert_eq!((free_huge_pages(), in_use(&ram).unwrap()), (free - 2, HUGE_PAGE as u64));
}

#[test]
fn parts_of_huge_pages_are_refused() {
    let refused = allocate_of(Pages::Huge, &[(GuestAddress(0), 3 * MIB)]);
    assert!(matches!(refused, Err(MemoryError::PartOfAPage { .. })));
}

#[test]
fn a_mapping_that_no_host_has_names_the_key() {
    let error = allocate(&[(GuestAddress(0), 1 << 60)]).unwrap_err();
    assert!(matches!(error, MemoryError::Map { mib, .. } if mib == 1 << 40), "{error}");
    assert_eq!(error.key(), Some("machine.memory_mib"));
}
