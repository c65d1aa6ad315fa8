//! What CPUID tells a guest: what KVM supports, minus what a microVM cannot keep, plus its own topology.
//!
//! Topology: one package, as many cores as vCPUs, one thread each; the APIC id is the vCPU number. Its leaves
//! are written whole: newer kernels list only a part of them as supported. A package's own numbers are powers of two
//! for whoever reads them, as the standard wants it: three cores are counted in two bits.
//!
//! No guest is a host: what such a one keeps in the processor is not written down with a machine, and is a large part of
//! KVM to be at the mercy of.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Leaves that list the levels of the topology: Intel's old and new one.
const TOPOLOGY: [u32; 2] = [0xb, 0x1f];

/// The range of leaves that hypervisors have; the first tells its last one.
const HYPERVISOR: u32 = 0x4000_0000;
/// Time: TSC and APIC timer in kHz. VMware's, and since then everybody's.
const HYPERVISOR_TIME: u32 = 0x4000_0010;
/// What KVM's local APICs count with: a nanosecond a tick.
const APIC_KHZ: u32 = 1_000_000;

/// Bits that a core number takes in an APIC id.
const fn core_bits(vcpus: u8) -> u32 {
    (vcpus as u32).next_power_of_two().trailing_zeros()
}

/// Adapts KVM's supported CPUID for vCPU number `index` of `vcpus`, whose TSC counts with `tsc_khz`.
pub(super) fn adapt(
    supported: &[kvm_cpuid_entry2],
    index: u8,
    vcpus: u8,
    tsc_khz: Option<u32>,
) -> Vec<kvm_cpuid_entry2> {
    let apic_id = u32::from(index);
    let amd = supported.iter().any(|entry| entry.function == 0 && is_amd(entry));
    let mut entries = Vec::with_capacity(supported.len() + 5);
    for entry in supported {
        match entry.function {
            function if TOPOLOGY.contains(&function) => {
                if entry.index == 0 {
                    entries.extend([0, 1].map(|level| topology(function, level, apic_id, vcpus)));
                }
            }
            HYPERVISOR if tsc_khz.is_some() => {
                entries.push(kvm_cpuid_entry2 { eax: entry.eax.max(HYPERVISOR_TIME), ..*entry });
            }
            HYPERVISOR_TIME => {}
            _ => entries.push(adapt_entry(*entry, apic_id, vcpus, amd)),
        }
    }
    if let Some(eax) = tsc_khz {
        entries.push(kvm_cpuid_entry2 {
            function: HYPERVISOR_TIME,
            eax,
            ebx: APIC_KHZ,
            ..Default::default()
        });
    }
    entries
}

/// AMD's and Hygon's processors tell their topology in leaves that are reserved on Intel's.
fn is_amd(vendor: &kvm_cpuid_entry2) -> bool {
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat();
    matches!(name.as_slice(), b"AuthenticAMD" | b"HygonGenuine")
}

fn adapt_entry(mut entry: kvm_cpuid_entry2, apic_id: u32, vcpus: u8, amd: bool) -> kvm_cpuid_entry2 {
    let cores = u32::from(vcpus);
    match entry.function {
        0x1 => {
            // Initial APIC id, logical processors, and the CLFLUSH size that KVM reported.
            entry.ebx = (entry.ebx & 0x0000_ff00) | (apic_id << 24) | (cores << 16);
            const TSC_DEADLINE: u32 = 1 << 24;
            const HYPERVISOR: u32 = 1 << 31;
            // KVM's timer in the local APIC always has the deadline mode; its list does not say so.
            entry.ecx |= TSC_DEADLINE | HYPERVISOR;
            const VMX: u32 = 1 << 5;
            entry.ecx &= !VMX;
            const HYPER_THREADING: u32 = 1 << 28;
            if vcpus > 1 {
                entry.edx |= HYPER_THREADING;
            } else {
                entry.edx &= !HYPER_THREADING;
            }
        }
        // Cache parameters, Intel's and AMD's: the last level is shared by all cores, the others are not.
        0x4 | 0x8000_001d if entry.eax & 0x1f != 0 => {
            let level = (entry.eax >> 5) & 0x7;
            let sharing = if level >= 3 { cores - 1 } else { 0 };
            entry.eax = (entry.eax & 0x0000_3fff) | (sharing << 14);
            if entry.function == 0x4 {
                entry.eax |= (cores - 1) << 26;
            }
        }
        // Performance counters are not virtualised for microVMs.
        0xa => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        0x8000_0001 => {
            const SVM: u32 = 1 << 2;
            entry.ecx &= !SVM;
            if amd {
                // "The logical processors of leaf 1 are cores", which they are where there is more than one.
                const CORES_NOT_THREADS: u32 = 1 << 1;
                entry.ecx =
                    if vcpus > 1 { entry.ecx | CORES_NOT_THREADS } else { entry.ecx & !CORES_NOT_THREADS };
            }
        }
        // What SVM can do, where there is any.
        0x8000_000a => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        // AMD: cores in the package, and the width of a core number.
        0x8000_0008 if amd => entry.ecx = (core_bits(vcpus) << 12) | (cores - 1),
        // AMD: extended APIC id; one thread per core; one node.
        0x8000_001e if amd => (entry.eax, entry.ebx, entry.ecx) = (apic_id, apic_id, 0),
        _ => {}
    }
    entry
}

/// Level 0 is the thread (one per core), level 1 the core.
fn topology(function: u32, level: u32, apic_id: u32, vcpus: u8) -> kvm_cpuid_entry2 {
    const THREAD: u32 = 1;
    const CORE: u32 = 2;
    let (shift, count, kind) =
        if level == 0 { (0, 1, THREAD) } else { (core_bits(vcpus), u32::from(vcpus), CORE) };
    kvm_cpuid_entry2 {
        function,
        index: level,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: (kind << 8) | level,
        edx: apic_id,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, ..Default::default() }
    }

    #[test]
    fn each_vcpu_is_a_core_of_one_package_though_kvm_lists_one_level_only() {
        let adapted = adapt(&[leaf(0xb)], 2, 3, None);
        let told: Vec<_> = adapted.iter().map(|e| (e.index, e.eax, e.ebx, e.ecx, e.edx)).collect();
        assert_eq!(told, [(0, 0, 1, 0x100, 2), (1, 2, 3, 0x201, 2)]);
        assert!(adapted.iter().all(|e| e.flags == KVM_CPUID_FLAG_SIGNIFCANT_INDEX));

        let entry = adapt(&[leaf(0x1)], 2, 3, None)[0];
        assert_eq!(entry.ebx >> 24, 2);
        assert_eq!((entry.ebx >> 16) & 0xff, 3);
        assert_ne!(entry.ecx & (1 << 31), 0, "the guest must know that it is one");
    }

    #[test]
    fn performance_counters_are_hidden() {
        let counters = kvm_cpuid_entry2 { eax: 0x0730_0402, ..leaf(0xa) };
        assert_eq!(adapt(&[counters], 0, 1, None)[0].eax, 0);
    }

    #[test]
    fn no_guest_is_told_that_it_could_be_a_host() {
        let all = |function| kvm_cpuid_entry2 { eax: !0, ebx: !0, ecx: !0, edx: !0, ..leaf(function) };
        for vendor in [b"GenuineIntel", b"AuthenticAMD"] {
            let mut leaves = listed(vendor);
            leaves.retain(|entry| !matches!(entry.function, 0x1 | 0x8000_0001));
            leaves.extend([0x1, 0x8000_0001, 0x8000_000a].map(all));
            let told = adapt(&leaves, 0, 2, None);
            let of = |function| *told.iter().find(|entry| entry.function == function).unwrap();
            assert_eq!(
                (of(0x1).ecx, of(0x8000_0001).ecx),
                (!(1 << 5), !(1 << 2)),
                "VMX and SVM, and nothing else"
            );
            let svm = of(0x8000_000a);
            assert_eq!((svm.eax, svm.ebx, svm.ecx, svm.edx), (0, 0, 0, 0));
        }
    }

    #[test]
    fn only_the_last_level_cache_is_shared() {
        let cache = |level: u32| kvm_cpuid_entry2 { eax: (level << 5) | 1 | (7 << 14), ..leaf(0x8000_001d) };
        let sharing = |level| (adapt(&[cache(level)], 0, 4, None)[0].eax >> 14) & 0xfff;
        assert_eq!([1, 2, 3].map(sharing), [0, 0, 3]);
    }

    /// What a processor of `vendor` lists.
    fn listed(vendor: &[u8; 12]) -> Vec<kvm_cpuid_entry2> {
        let word = |at: usize| u32::from_le_bytes(vendor[at..at + 4].try_into().unwrap());
        let name = kvm_cpuid_entry2 { ebx: word(0), edx: word(4), ecx: word(8), ..leaf(0) };
        let hypervisor = kvm_cpuid_entry2 { eax: 0x4000_0001, ebx: 7, ..leaf(0x4000_0000) };
        let cache = kvm_cpuid_entry2 { eax: (3 << 5) | 3, ..leaf(0x4) };
        let amd_cache = kvm_cpuid_entry2 { function: 0x8000_001d, ..cache };
        let mut leaves = vec![name, hypervisor, cache, amd_cache];
        leaves.extend([0x1, 0xb, 0x1f, 0x8000_0001, 0x8000_0008, 0x8000_001e].map(leaf));
        leaves
    }

    /// As Linux reads them (`arch/x86/kernel/cpu/{topology,amd,cacheinfo}.c`): a level's bits are cut off the APIC id.
    #[test]
    fn one_to_sixteen_cores_are_one_package_with_one_last_cache_in_every_leaf() {
        for vcpus in 1..=16u8 {
            let width = u32::from(vcpus).next_power_of_two().trailing_zeros();
            let mut ids = Vec::new();
            for index in 0..vcpus {
                let told = adapt(&listed(b"AuthenticAMD"), index, vcpus, None);
                let of = |function, level| {
                    *told.iter().find(|e| (e.function, e.index) == (function, level)).unwrap()
                };
                ids.push(of(1, 0).ebx >> 24);
                assert_eq!((of(1, 0).ebx >> 16) & 0xff, u32::from(vcpus));
                assert_eq!(of(1, 0).edx & (1 << 28) != 0, vcpus > 1);
                for function in TOPOLOGY {
                    assert_eq!((of(function, 0).eax, of(function, 0).ebx), (0, 1));
                    assert_eq!((of(function, 1).eax, of(function, 1).ebx), (width, u32::from(vcpus)));
                    assert_eq!(of(function, 1).edx, u32::from(index));
                    assert_eq!(of(function, 1).edx >> of(function, 1).eax, 0, "one package");
                }
                for function in [0x4, 0x8000_001d] {
                    let sharing = ((of(function, 0).eax >> 14) & 0xfff) + 1;
                    assert_eq!(sharing.next_power_of_two().trailing_zeros(), width);
                }
                assert_eq!((of(4, 0).eax >> 26) + 1, u32::from(vcpus));
                assert_eq!(of(0x8000_0008, 0).ecx, (width << 12) | (u32::from(vcpus) - 1));
                assert_eq!(of(0x8000_0001, 0).ecx & 2 != 0, vcpus > 1);
                let node = of(0x8000_001e, 0);
                assert_eq!((node.eax, node.ebx, node.ecx), (u32::from(index), u32::from(index), 0));
            }
            assert_eq!(ids, (0..u32::from(vcpus)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_intel_processor_has_none_of_amd_s_topology() {
        let told = adapt(&listed(b"GenuineIntel"), 3, 4, None);
        for function in [0x8000_0001, 0x8000_0008, 0x8000_001e] {
            let entry = told.iter().find(|entry| entry.function == function).unwrap();
            assert_eq!((entry.eax, entry.ebx, entry.ecx), (0, 0, 0));
        }
    }

    #[test]
    fn the_tsc_s_rate_is_told_where_it_is_known() {
        let told = adapt(&listed(b"GenuineIntel"), 0, 1, Some(2_400_000));
        let of = |function| *told.iter().find(|entry| entry.function == function).unwrap();
        assert_eq!((of(0x4000_0000).eax, of(0x4000_0000).ebx), (0x4000_0010, 7));
        assert_eq!((of(0x4000_0010).eax, of(0x4000_0010).ebx), (2_400_000, 1_000_000));
        let untold = adapt(&listed(b"GenuineIntel"), 0, 1, None);
        assert!(untold.iter().all(|entry| entry.function != 0x4000_0010));
        assert!(untold.iter().any(|entry| (entry.function, entry.eax) == (0x4000_0000, 0x4000_0001)));
    }
}
