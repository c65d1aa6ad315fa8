//! The ACPI tables of a microVM: hardware-reduced, so no SCI, no PM timer, no legacy devices to probe.
//!
//! Duty: tell the kernel of its processors, interrupt routing, devices, and of the registers that put it to
//! sleep or reset it (`devices::power`). Invariant: what stands here answers on the bus, and the other way
//! round; both come from the same `layout`.

use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, aml};
use vm_memory::{Bytes, GuestAddress};

use super::{layout, wdat};
use crate::arch::{BootError, Fittings, MmioSlot};
use crate::devices::power;
use crate::memory::GuestRam;

pub(super) const OEM: [u8; 6] = *b"HEARTH";
pub(super) const OEM_TABLE: [u8; 8] = *b"HEARTHVM";
pub(super) const OEM_REVISION: u32 = 1;
/// Bytes of an ACPI table header.
pub(super) const HEADER: u32 = 36;
/// Tables start at multiples of this.
const ALIGNMENT: u64 = 16;

/// No VGA to probe, no CMOS clock to read (ACPI 6.5, table 5.11).
const BOOT_ARCH_NO_VGA_NO_CMOS: u16 = (1 << 2) | (1 << 5);

/// Writes all tables; the RSDP ends up at [`layout::ACPI`].
pub(super) fn write(memory: &GuestRam, fittings: &Fittings<'_>) -> Result<(), BootError> {
    let mut place = Placement { memory, next: layout::ACPI.0 + 64 };
    let dsdt = place.table(&dsdt(fittings))?;
    let fadt = place.table(&fadt(dsdt))?;
    let madt = place.table(&madt(fittings.vcpus))?;
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    if fittings.watchdog {
        xsdt.add_entry(place.table(&wdat::table())?);
    }
    let xsdt = place.table(&xsdt)?;
    Ok(memory.write_slice(&bytes_of(&Rsdp::new(OEM, xsdt)), layout::ACPI)?)
}

/// Puts table after table into the region.
struct Placement<'a> {
    memory: &'a GuestRam,
    next: u64,
}

impl Placement<'_> {
    fn table(&mut self, table: &dyn Aml) -> Result<u64, BootError> {
        let bytes = bytes_of(table);
        let address = self.next.next_multiple_of(ALIGNMENT);
        self.next = address + bytes.len() as u64;
        // What follows is the generation ID.
        if self.next > layout::GENERATION_ID.0 {
            return Err(BootError::Tables { end: self.next, room: layout::GENERATION_ID.0 });
        }
        self.memory.write_slice(&bytes, GuestAddress(address))?;
        Ok(address)
    }
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn port(offset: u16) -> GAS {
    let address = u64::from(layout::POWER_PORT + offset);
    GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, address)
}

fn fadt(dsdt: u64) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.iapc_boot_arch = BOOT_ARCH_NO_VGA_NO_CMOS.into();
    fadt.sleep_control_reg = port(power::SLEEP_CONTROL);
    fadt.sleep_status_reg = port(power::SLEEP_STATUS);
    fadt.reset_reg = port(power::RESET);
    fadt.reset_value = power::RESET_VALUE;
    fadt.finalize()
}

fn madt(vcpus: u8) -> MADT {
    let mut madt =
        MADT::new(OEM, OEM_TABLE, OEM_REVISION, LocalInterruptController::Address(layout::LOCAL_APIC));
    for vcpu in 0..vcpus {
        madt.add_structure(ProcessorLocalApic::new(vcpu, vcpu, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IO_APIC, 0));
    madt
}

fn dsdt(fittings: &Fittings<'_>) -> Sdt {
    let mut body = Vec::new();
    if fittings.serial {
        serial(&mut body);
    }
    for (index, slot) in (0u32..).zip(fittings.slots) {
        virtio(&mut body, index, *slot);
    }
    events(&mut body);
    pvpanic(&mut body);
    // Soft off: the value goes into the sleep control register.
    let sleep_type = power::SLEEP_TYPE_OFF;
    aml::Name::new("_S5_".into(), &aml::Package::new(vec![&sleep_type, &0u8])).to_aml_bytes(&mut body);
    let mut table = Sdt::new(*b"DSDT", HEADER, 6, OEM, OEM_TABLE, OEM_REVISION);
    table.append_slice(&body);
    table
}

fn serial(body: &mut Vec<u8>) {
    let port = layout::SERIAL_PORT;
    aml::Device::new(
        "_SB_.COM1".into(),
        vec![
            &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501")),
            &aml::Name::new("_UID".into(), &0u8),
            &aml::Name::new(
                "_CRS".into(),
                &aml::ResourceTemplate::new(vec![
                    &aml::Interrupt::new(true, true, false, false, layout::SERIAL_GSI),
                    &aml::IO::new(port, port, 1, 8),
                ]),
            ),
        ],
    )
    .to_aml_bytes(body);
}

/// What the machine tells the kernel unasked: each event has an interrupt of its own, so the method need not
/// look at any register.
fn events(body: &mut Vec<u8>) {
    /// Status 0x80 is "pressed" to a button, and "changed" to a generation ID.
    const NOTIFICATION: u8 = 0x80;
    let button = aml::Path::new("\\_SB_.PWRB");
    let generation = aml::Path::new("\\_SB_.VGEN");
    aml::Device::new(
        "_SB_.PWRB".into(),
        vec![
            &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0C0C")),
            &aml::Name::new("_UID".into(), &0u8),
        ],
    )
    .to_aml_bytes(body);
    let place = layout::GENERATION_ID.0;
    let halves = [place & u64::from(u32::MAX), place >> 32];
    aml::Device::new(
        "_SB_.VGEN".into(),
        vec![
            &aml::Name::new("_HID".into(), &"HRTH0001"),
            &aml::Name::new("_CID".into(), &"VM_Gen_Counter"),
            &aml::Name::new("_DDN".into(), &"VM_Gen_Counter"),
            &aml::Name::new("ADDR".into(), &aml::Package::new(vec![&halves[0], &halves[1]])),
        ],
    )
    .to_aml_bytes(body);
    aml::Device::new(
        "_SB_.GED_".into(),
        vec![
            &aml::Name::new("_HID".into(), &"ACPI0013"),
            &aml::Name::new("_UID".into(), &0u8),
            &aml::Name::new(
                "_CRS".into(),
                &aml::ResourceTemplate::new(vec![
                    &aml::Interrupt::new(true, true, false, false, layout::POWER_BUTTON_GSI),
                    &aml::Interrupt::new(true, true, false, false, layout::GENERATION_GSI),
                ]),
            ),
            &aml::Method::new(
                "_EVT".into(),
                1,
                true,
                vec![
                    &aml::If::new(
                        &aml::Equal::new(&aml::Arg(0), &layout::POWER_BUTTON_GSI),
                        vec![&aml::Notify::new(&button, &NOTIFICATION)],
                    ),
                    &aml::If::new(
                        &aml::Equal::new(&aml::Arg(0), &layout::GENERATION_GSI),
                        vec![&aml::Notify::new(&generation, &NOTIFICATION)],
                    ),
                ],
            ),
        ],
    )
    .to_aml_bytes(body);
}

fn pvpanic(body: &mut Vec<u8>) {
    let port = layout::PANIC_PORT;
    aml::Device::new(
        "_SB_.PEVT".into(),
        vec![
            &aml::Name::new("_HID".into(), &"QEMU0001"),
            &aml::Name::new("_UID".into(), &0u8),
            &aml::Name::new(
                "_CRS".into(),
                &aml::ResourceTemplate::new(vec![&aml::IO::new(port, port, 1, 1)]),
            ),
        ],
    )
    .to_aml_bytes(body);
}

fn virtio(body: &mut Vec<u8>, index: u32, slot: MmioSlot) {
    let base = u32::try_from(slot.base).unwrap_or(0);
    aml::Device::new(
        format!("_SB_.V{index:03}").as_str().into(),
        vec![
            &aml::Name::new("_HID".into(), &"LNRO0005"),
            &aml::Name::new("_UID".into(), &index),
            // Coherent: without it the kernel assumes bounce buffers.
            &aml::Name::new("_CCA".into(), &1u8),
            &aml::Name::new(
                "_CRS".into(),
                &aml::ResourceTemplate::new(vec![
                    &aml::Memory32Fixed::new(true, base, 0x1000),
                    &aml::Interrupt::new(true, true, false, false, slot.interrupt),
                ]),
            ),
        ],
    )
    .to_aml_bytes(body);
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestMemoryBackend;

    use super::*;

    fn sums_to_zero(bytes: &[u8]) -> bool {
        bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0
    }

    fn table_at(memory: &GuestRam, address: u64) -> Vec<u8> {
        let length: u32 = memory.read_obj(GuestAddress(address + 4)).unwrap();
        let mut bytes = vec![0; length as usize];
        memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    fn u64_at(bytes: &[u8], offset: usize) -> u64 {
        u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
    }

    #[test]
    fn the_rsdp_leads_to_every_table_and_every_checksum_holds() {
        let memory = crate::memory::allocate(&layout::ram_ranges(32 << 20)).unwrap();
        let slots: Vec<_> = (0..layout::MAX_MMIO_SLOTS).filter_map(layout::mmio_slot).collect();
        write(&memory, &Fittings { vcpus: 16, slots: &slots, serial: true, watchdog: true }).unwrap();
        assert!(memory.check_address(layout::ACPI).is_some());

        let mut rsdp = [0; 36];
        memory.read_slice(&mut rsdp, layout::ACPI).unwrap();
        assert_eq!(&rsdp[..8], b"RSD PTR ");
        assert!(sums_to_zero(&rsdp[..20]) && sums_to_zero(&rsdp));

        let xsdt = table_at(&memory, u64_at(&rsdp, 24));
        assert!(xsdt.starts_with(b"XSDT") && sums_to_zero(&xsdt));
        let mut signatures = Vec::new();
        for entry in xsdt[36..].chunks(8) {
            let table = table_at(&memory, u64_at(entry, 0));
            assert!(sums_to_zero(&table));
            if table.starts_with(b"FACP") {
                let dsdt = table_at(&memory, u64_at(&table, 140));
                assert!(dsdt.starts_with(b"DSDT") && sums_to_zero(&dsdt));
                let nodes = dsdt.windows(8).filter(|w| w == b"LNRO0005").count();
                assert_eq!(nodes, slots.len());
            }
            signatures.push(String::from_utf8(table[..4].to_vec()).unwrap());
        }
        assert_eq!(signatures, ["FACP", "APIC", "WDAT"]);
    }

    #[test]
    fn tables_that_outgrow_their_room_are_refused_and_not_written() {
        let memory = crate::memory::allocate(&layout::ram_ranges(32 << 20)).unwrap();
        let length = bytes_of(&madt(1)).len() as u64;
        let end = layout::GENERATION_ID.0;
        let table = |next| Placement { memory: &memory, next }.table(&madt(1));
        assert!(table((end - length) / ALIGNMENT * ALIGNMENT).is_ok());
        let refused = table((end - length) / ALIGNMENT * ALIGNMENT + 1).unwrap_err().to_string();
        assert!(refused.starts_with("the ACPI tables end at 0xff0"), "{refused}");
        assert_eq!(memory.read_obj::<u64>(layout::GENERATION_ID).unwrap(), 0);
    }

    #[test]
    fn only_a_machine_with_a_serial_port_describes_one() {
        let describes = |serial| bytes_of(&dsdt(&Fittings { vcpus: 1, slots: &[], serial, watchdog: false }));
        let names_it = |table: Vec<u8>| table.windows(4).any(|name| name == b"COM1");
        assert!(names_it(describes(true)));
        assert!(!names_it(describes(false)));
    }
}
