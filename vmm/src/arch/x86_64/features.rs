//! Which processor features a saved guest counts on, and whether this host has them.
//!
//! Duty: compare word by word what CPUID told the guest with what this KVM can tell. Only words that are sets of
//! features are compared; numbers, such as cache sizes, do no harm when they are another processor's.

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Kvm, VcpuFd};

use super::saved::exactly;
use crate::arch::SavedError;

/// One of the four registers that CPUID fills.
#[derive(Clone, Copy)]
enum Word {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

impl Word {
    const fn of(self, entry: &kvm_cpuid_entry2) -> u32 {
        match self {
            Self::Eax => entry.eax,
            Self::Ebx => entry.ebx,
            Self::Ecx => entry.ecx,
            Self::Edx => entry.edx,
        }
    }

    const fn of_mut(self, entry: &mut kvm_cpuid_entry2) -> &mut u32 {
        match self {
            Self::Eax => &mut entry.eax,
            Self::Ebx => &mut entry.ebx,
            Self::Ecx => &mut entry.ecx,
            Self::Edx => &mut entry.edx,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Eax => "EAX",
            Self::Ebx => "EBX",
            Self::Ecx => "ECX",
            Self::Edx => "EDX",
        }
    }
}

/// Leaf, subleaf and word of every set of features, with the bits that say something else: those that we or the
/// guest's kernel set (OSXSAVE and OSPKE, the deadline timer, "there is a hypervisor", hyper-threading), which KVM
/// does not list, or not always.
const SETS: [(u32, u32, Word, u32); 13] = [
    (0x1, 0, Word::Ecx, (1 << 27) | (1 << 24) | (1 << 31)),
    (0x1, 0, Word::Edx, 1 << 28),
    (0x7, 0, Word::Ebx, 0),
    (0x7, 0, Word::Ecx, 1 << 4),
    (0x7, 0, Word::Edx, 0),
    (0x7, 1, Word::Eax, 0),
    (0xd, 0, Word::Eax, 0),
    (0xd, 1, Word::Eax, 0),
    (0x4000_0001, 0, Word::Eax, 0),
    (0x8000_0001, 0, Word::Ecx, 1 << 1),
    (0x8000_0001, 0, Word::Edx, 0),
    (0x8000_0007, 0, Word::Edx, 0),
    (0x8000_0008, 0, Word::Ebx, 0),
];

/// What CPUID tells the guest on `vcpu`. A KVM that interprets may answer with the processor's own features, whatever it
/// was told and offers; those are not the guest's to count on.
pub(super) fn of_vcpu(kvm: &Kvm, vcpu: &VcpuFd) -> Result<Vec<kvm_cpuid_entry2>, SavedError> {
    let refused = |error| SavedError::Kvm("read CPU features", error);
    let mut told = vcpu.get_cpuid2(KVM_MAX_CPUID_ENTRIES).map_err(refused)?;
    let host = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(refused)?;
    let entries = told.as_mut_slice();
    for (leaf, subleaf, word, aside) in SETS {
        let offered = word.of(&find(host.as_slice(), leaf, subleaf)) | aside;
        let entry = entries.iter_mut().find(|entry| (entry.function, entry.index) == (leaf, subleaf));
        if let Some(entry) = entry {
            *word.of_mut(entry) &= offered;
        }
    }
    Ok(entries.to_vec())
}

/// The entries that were saved.
pub(super) fn entries(bytes: &[u8]) -> Result<Vec<kvm_cpuid_entry2>, SavedError> {
    let size = size_of::<kvm_cpuid_entry2>();
    if bytes.is_empty() || bytes.len() > KVM_MAX_CPUID_ENTRIES * size {
        return Err(SavedError::Unlike("its CPU features are none".into()));
    }
    bytes.chunks(size).map(exactly).collect()
}

fn find(entries: &[kvm_cpuid_entry2], leaf: u32, subleaf: u32) -> kvm_cpuid_entry2 {
    let found = entries.iter().find(|entry| (entry.function, entry.index) == (leaf, subleaf));
    found.copied().unwrap_or_default()
}

/// Refuses a guest that was told of what this host does not have.
pub(super) fn check(kvm: &Kvm, saved: &[kvm_cpuid_entry2]) -> Result<(), SavedError> {
    let host = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(|error| SavedError::Kvm("list CPU features", error))?;
    compare(saved, host.as_slice())
}

fn compare(saved: &[kvm_cpuid_entry2], host: &[kvm_cpuid_entry2]) -> Result<(), SavedError> {
    let vendor = |entries: &[kvm_cpuid_entry2]| {
        let entry = find(entries, 0, 0);
        [entry.ebx, entry.edx, entry.ecx].map(u32::to_le_bytes).concat()
    };
    if vendor(saved) != vendor(host) {
        return Err(SavedError::Unlike(format!(
            "its processor is of {}, the host's of {}",
            String::from_utf8_lossy(&vendor(saved)),
            String::from_utf8_lossy(&vendor(host)),
        )));
    }
    for (leaf, subleaf, word, aside) in SETS {
        let wanted = word.of(&find(saved, leaf, subleaf));
        let missing = wanted & !word.of(&find(host, leaf, subleaf)) & !aside;
        if missing != 0 {
            return Err(SavedError::Unlike(format!(
                "the host's processor lacks features of the guest's: bits {missing:#x} of {} in CPUID leaf {leaf:#x}.{subleaf}",
                word.name()
            )));
        }
    }
    Ok(())
}

/// All sets of features in one number: hosts with the same can take over each other's guests.
pub fn digest(state: &super::saved::VcpuState) -> u64 {
    let Ok(entries) = entries(&state.cpuid) else { return 0 };
    let words = SETS
        .into_iter()
        .map(|(leaf, subleaf, word, aside)| u64::from(word.of(&find(&entries, leaf, subleaf)) & !aside));
    crate::snapshot::sum::of_words(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Vec<kvm_cpuid_entry2> {
        let leaf =
            |function, index, ebx, ecx| kvm_cpuid_entry2 { function, index, ebx, ecx, ..Default::default() };
        vec![leaf(0, 0, 7, 8), leaf(1, 0, 0, 0b1111), leaf(7, 0, 0b110, 0)]
    }

    fn refusal(saved: &[kvm_cpuid_entry2]) -> String {
        compare(saved, &host()).unwrap_err().to_string()
    }

    #[test]
    fn fewer_features_than_the_host_has_are_no_reason_to_refuse() {
        let mut saved = host();
        saved[2].ebx = 0b010;
        assert!(compare(&saved, &host()).is_ok());
        saved.pop();
        assert!(compare(&saved, &host()).is_ok());
    }

    #[test]
    fn a_feature_that_the_host_lacks_is_named_by_its_place() {
        let mut saved = host();
        saved[2].ebx = 0b111;
        assert!(refusal(&saved).ends_with("bits 0x1 of EBX in CPUID leaf 0x7.0"), "{}", refusal(&saved));
    }

    #[test]
    fn what_we_set_ourselves_is_not_asked_of_the_host_and_another_vendor_is_refused() {
        let mut saved = host();
        saved[1].ecx |= (1 << 31) | (1 << 24) | (1 << 27);
        assert!(compare(&saved, &host()).is_ok());
        saved[0].ebx = 9;
        assert!(refusal(&saved).starts_with("its processor is of "));
    }

    #[test]
    fn entries_are_whole_or_none() {
        assert!(entries(&[]).is_err() && entries(&[0; 41]).is_err());
        assert_eq!(entries(&[0; 80]).unwrap().len(), 2);
        assert!(entries(&vec![0; 40 * (KVM_MAX_CPUID_ENTRIES + 1)]).is_err());
    }
}
