//! What CPUID tells a guest: what KVM supports, minus what a microVM cannot keep, plus its own topology.
//!
//! Topology: one package, as many cores as vCPUs, one thread each; the APIC id is the vCPU number.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// Bits that a core number takes in an APIC id.
const fn core_bits(vcpus: u8) -> u32 {
    (vcpus as u32).next_power_of_two().trailing_zeros()
}

/// Adapts KVM's supported CPUID for vCPU number `index` of `vcpus`.
pub(super) fn adapt(cpuid: &mut CpuId, index: u8, vcpus: u8) {
    let (apic_id, cores) = (u32::from(index), u32::from(vcpus));
    for entry in cpuid.as_mut_slice() {
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
            // Deterministic cache parameters: the last level is shared by all cores, the others are not.
            0x4 => {
                let level = (entry.eax >> 5) & 0x7;
                let sharing = if level >= 3 { cores - 1 } else { 0 };
                if entry.eax & 0x1f != 0 {
                    entry.eax = (entry.eax & 0x0000_3fff) | (sharing << 14) | ((cores - 1) << 26);
                }
            }
            0xb | 0x1f => topology(entry, apic_id, vcpus),
            // Performance counters are not virtualised for microVMs.
            0xa => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
            // AMD: cores in the package, and the width of a core number.
            0x8000_0008 => entry.ecx = (core_bits(vcpus) << 12) | (cores - 1),
            // AMD: extended APIC id; one thread per core; one node.
            0x8000_001e => {
                entry.eax = apic_id;
                entry.ebx = apic_id;
                entry.ecx = 0;
            }
            _ => {}
        }
    }
}

/// Leaves 0xB and 0x1F: level 0 is the thread (one per core), level 1 the core.
fn topology(entry: &mut kvm_cpuid_entry2, apic_id: u32, vcpus: u8) {
    const THREAD: u32 = 1;
    const CORE: u32 = 2;
    let (shift, count, kind) = match entry.index {
        0 => (0, 1, THREAD),
        1 => (core_bits(vcpus), u32::from(vcpus), CORE),
        _ => (0, 0, 0),
    };
    entry.eax = shift;
    entry.ebx = count;
    entry.ecx = (kind << 8) | entry.index;
    entry.edx = apic_id;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(function: u32, index: u32) -> CpuId {
        let entry = kvm_cpuid_entry2 { function, index, ..Default::default() };
        CpuId::from_entries(&[entry]).unwrap()
    }

    #[test]
    fn each_vcpu_is_a_core_of_one_package() {
        let mut cpuid = one(0xb, 1);
        adapt(&mut cpuid, 2, 3);
        let entry = cpuid.as_slice()[0];
        assert_eq!((entry.eax, entry.ebx, entry.ecx, entry.edx), (2, 3, 0x201, 2));

        let mut cpuid = one(0x1, 0);
        adapt(&mut cpuid, 2, 3);
        let entry = cpuid.as_slice()[0];
        assert_eq!(entry.ebx >> 24, 2);
        assert_eq!((entry.ebx >> 16) & 0xff, 3);
        assert_ne!(entry.ecx & (1 << 31), 0, "the guest must know that it is one");
    }

    #[test]
    fn performance_counters_are_hidden() {
        let mut cpuid = one(0xa, 0);
        cpuid.as_mut_slice()[0].eax = 0x0730_0402;
        adapt(&mut cpuid, 0, 1);
        assert_eq!(cpuid.as_slice()[0].eax, 0);
    }
}
