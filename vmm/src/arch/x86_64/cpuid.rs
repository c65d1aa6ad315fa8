//! What CPUID tells a guest: what KVM supports, minus what a microVM cannot keep, plus its own topology.
//!
//! Topology: one package, as many cores as vCPUs, one thread each; the APIC id is the vCPU number. Its leaves
//! are written whole: newer kernels list only a part of them as supported.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Leaves that list the levels of the topology: Intel's old and new one.
const TOPOLOGY: [u32; 2] = [0xb, 0x1f];

/// Bits that a core number takes in an APIC id.
const fn core_bits(vcpus: u8) -> u32 {
    (vcpus as u32).next_power_of_two().trailing_zeros()
}

/// Adapts KVM's supported CPUID for vCPU number `index` of `vcpus`.
pub(super) fn adapt(supported: &[kvm_cpuid_entry2], index: u8, vcpus: u8) -> Vec<kvm_cpuid_entry2> {
    let apic_id = u32::from(index);
    let mut entries = Vec::with_capacity(supported.len() + 4);
    for entry in supported {
        if TOPOLOGY.contains(&entry.function) {
            if entry.index == 0 {
                entries.extend([0, 1].map(|level| topology(entry.function, level, apic_id, vcpus)));
            }
        } else {
            entries.push(adapt_entry(*entry, apic_id, vcpus));
        }
    }
    entries
}

fn adapt_entry(mut entry: kvm_cpuid_entry2, apic_id: u32, vcpus: u8) -> kvm_cpuid_entry2 {
    let cores = u32::from(vcpus);
    match entry.function {
        0x1 => {
            // Initial APIC id, logical processors, and the CLFLUSH size that KVM reported.
            entry.ebx = (entry.ebx & 0x0000_ff00) | (apic_id << 24) | (cores << 16);
            const TSC_DEADLINE: u32 = 1 << 24;
            const HYPERVISOR: u32 = 1 << 31;
            // KVM's timer in the local APIC always has the deadline mode; its list does not say so.
            entry.ecx |= TSC_DEADLINE | HYPERVISOR;
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
        // AMD: cores in the package, and the width of a core number.
        0x8000_0008 => entry.ecx = (core_bits(vcpus) << 12) | (cores - 1),
        // AMD: extended APIC id; one thread per core; one node.
        0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (apic_id, apic_id, 0),
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
        let adapted = adapt(&[leaf(0xb)], 2, 3);
        let told: Vec<_> = adapted.iter().map(|e| (e.index, e.eax, e.ebx, e.ecx, e.edx)).collect();
        assert_eq!(told, [(0, 0, 1, 0x100, 2), (1, 2, 3, 0x201, 2)]);
        assert!(adapted.iter().all(|e| e.flags == KVM_CPUID_FLAG_SIGNIFCANT_INDEX));

        let entry = adapt(&[leaf(0x1)], 2, 3)[0];
        assert_eq!(entry.ebx >> 24, 2);
        assert_eq!((entry.ebx >> 16) & 0xff, 3);
        assert_ne!(entry.ecx & (1 << 31), 0, "the guest must know that it is one");
    }

    #[test]
    fn performance_counters_are_hidden() {
        let counters = kvm_cpuid_entry2 { eax: 0x0730_0402, ..leaf(0xa) };
        assert_eq!(adapt(&[counters], 0, 1)[0].eax, 0);
    }

    #[test]
    fn only_the_last_level_cache_is_shared() {
        let cache = |level: u32| kvm_cpuid_entry2 { eax: (level << 5) | 1 | (7 << 14), ..leaf(0x8000_001d) };
        let sharing = |level| (adapt(&[cache(level)], 0, 4)[0].eax >> 14) & 0xfff;
        assert_eq!([1, 2, 3].map(sharing), [0, 0, 3]);
    }
}
