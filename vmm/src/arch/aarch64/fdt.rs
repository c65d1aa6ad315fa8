//! The flattened device tree: what the machine tells an ARM64 kernel of itself.

use vm_fdt::{Error, FdtWriter};

use super::{Gic, layout};
use crate::arch::seed::Seed;
use crate::arch::{Extent, Fittings, MmioSlot};
use crate::devices::primecell::{self, Identity};
use crate::devices::{generation, pl031, pvpanic, watchdog::sp805};

const GIC_PHANDLE: u32 = 1;
const CLOCK_PHANDLE: u32 = 2;
const PRIMECELL_CLOCK_PHANDLE: u32 = 3;

/// First cell of an interrupt.
const SPI: u32 = 0;
const PPI: u32 = 1;
/// Third cell of an interrupt.
const EDGE_RISING: u32 = 1;
const LEVEL_HIGH: u32 = 4;

/// The four timers of a core: secure, non-secure, virtual, hypervisor.
const TIMER_INTERRUPTS: [u32; 4] = [13, 14, 11, 10];
/// The rate of the serial port's divider. Nothing is divided, but drivers ask.
const SERIAL_CLOCK_HZ: u32 = 1_843_200;

/// From linux/input-event-codes.h.
const KEY_POWER: u32 = 116;

/// What the tree says beyond the layout.
pub(super) struct Facts<'a> {
    /// Bytes of it that the kernel may use.
    pub(super) ram: u64,
    pub(super) fittings: Fittings<'a>,
    pub(super) gic: Gic,
    pub(super) cmdline: &'a str,
    pub(super) initrd: Option<Extent>,
    pub(super) seed: Option<Seed>,
}

pub(super) fn build(facts: &Facts<'_>) -> Result<Vec<u8>, Error> {
    let mut tree = FdtWriter::new()?;
    let root = tree.begin_node("")?;
    tree.property_string("compatible", "linux,dummy-virt")?;
    tree.property_u32("#address-cells", 2)?;
    tree.property_u32("#size-cells", 2)?;
    tree.property_u32("interrupt-parent", GIC_PHANDLE)?;
    chosen(&mut tree, facts)?;
    memory(&mut tree, facts.ram)?;
    cpus(&mut tree, facts.fittings.vcpus)?;
    gic(&mut tree, facts)?;
    timer(&mut tree)?;
    psci(&mut tree)?;
    if facts.fittings.serial {
        serial(&mut tree)?;
    }
    primecells(&mut tree, facts.fittings.watchdog)?;
    pvpanic(&mut tree)?;
    power_button(&mut tree)?;
    generation_id(&mut tree, facts.ram)?;
    for slot in facts.fittings.slots {
        virtio(&mut tree, *slot)?;
    }
    tree.end_node(root)?;
    tree.finish()
}

fn chosen(tree: &mut FdtWriter, facts: &Facts<'_>) -> Result<(), Error> {
    let node = tree.begin_node("chosen")?;
    tree.property_string("bootargs", facts.cmdline)?;
    if facts.fittings.serial {
        tree.property_string("stdout-path", &format!("/serial@{:x}", layout::SERIAL_BASE))?;
    }
    if let Some(initrd) = facts.initrd {
        tree.property_u64("linux,initrd-start", initrd.start.0)?;
        tree.property_u64("linux,initrd-end", initrd.start.0 + initrd.length)?;
    }
    if let Some(seed) = &facts.seed {
        tree.property("rng-seed", &seed.generator)?;
        tree.property_u64("kaslr-seed", seed.place)?;
    }
    tree.end_node(node)
}

fn memory(tree: &mut FdtWriter, ram: u64) -> Result<(), Error> {
    let node = tree.begin_node(&format!("memory@{:x}", layout::RAM.0))?;
    tree.property_string("device_type", "memory")?;
    tree.property_array_u64("reg", &[layout::RAM.0, ram])?;
    tree.end_node(node)
}

fn cpus(tree: &mut FdtWriter, vcpus: u8) -> Result<(), Error> {
    let node = tree.begin_node("cpus")?;
    tree.property_u32("#address-cells", 1)?;
    tree.property_u32("#size-cells", 0)?;
    // KVM's affinity numbers: the vCPU number up to 16 of them.
    for vcpu in 0..u32::from(vcpus) {
        let cpu = tree.begin_node(&format!("cpu@{vcpu:x}"))?;
        tree.property_string("device_type", "cpu")?;
        tree.property_string("compatible", "arm,arm-v8")?;
        tree.property_string("enable-method", "psci")?;
        tree.property_u32("reg", vcpu)?;
        tree.end_node(cpu)?;
    }
    tree.end_node(node)
}

fn gic(tree: &mut FdtWriter, facts: &Facts<'_>) -> Result<(), Error> {
    let node = tree.begin_node(&format!("interrupt-controller@{:x}", layout::GIC_DISTRIBUTOR))?;
    let (compatible, second) = match facts.gic {
        Gic::V2 => ("arm,cortex-a15-gic", (layout::GICV2_CPU, layout::GICV2_CPU_LENGTH)),
        Gic::V3 => {
            let length = layout::GICV3_REDISTRIBUTOR_LENGTH * u64::from(facts.fittings.vcpus);
            ("arm,gic-v3", (layout::GICV3_REDISTRIBUTORS, length))
        }
    };
    tree.property_string("compatible", compatible)?;
    tree.property_null("interrupt-controller")?;
    tree.property_u32("#interrupt-cells", 3)?;
    tree.property_u32("#address-cells", 2)?;
    tree.property_u32("#size-cells", 2)?;
    tree.property_array_u64(
        "reg",
        &[layout::GIC_DISTRIBUTOR, layout::GIC_DISTRIBUTOR_LENGTH, second.0, second.1],
    )?;
    tree.property_phandle(GIC_PHANDLE)?;
    tree.end_node(node)
}

fn timer(tree: &mut FdtWriter) -> Result<(), Error> {
    let node = tree.begin_node("timer")?;
    tree.property_string("compatible", "arm,armv8-timer")?;
    tree.property_null("always-on")?;
    let cells: Vec<u32> = TIMER_INTERRUPTS.iter().flat_map(|number| [PPI, *number, LEVEL_HIGH]).collect();
    tree.property_array_u32("interrupts", &cells)?;
    tree.end_node(node)
}

fn psci(tree: &mut FdtWriter) -> Result<(), Error> {
    let node = tree.begin_node("psci")?;
    tree.property_string_list("compatible", vec!["arm,psci-1.0".into(), "arm,psci-0.2".into()])?;
    tree.property_string("method", "hvc")?;
    tree.end_node(node)
}

fn serial(tree: &mut FdtWriter) -> Result<(), Error> {
    let clock = tree.begin_node("serial-clock")?;
    tree.property_string("compatible", "fixed-clock")?;
    tree.property_u32("#clock-cells", 0)?;
    tree.property_u32("clock-frequency", SERIAL_CLOCK_HZ)?;
    tree.property_phandle(CLOCK_PHANDLE)?;
    tree.end_node(clock)?;
    let node = tree.begin_node(&format!("serial@{:x}", layout::SERIAL_BASE))?;
    tree.property_string("compatible", "ns16550a")?;
    tree.property_array_u64("reg", &[layout::SERIAL_BASE, layout::SERIAL_LENGTH])?;
    tree.property_array_u32("interrupts", &[SPI, layout::SERIAL_GSI, EDGE_RISING])?;
    tree.property_u32("clocks", CLOCK_PHANDLE)?;
    tree.end_node(node)
}

/// ARM's own peripherals, and the clock that drivers want to hear of: the watchdog counts it, the others have it
/// for form's sake.
fn primecells(tree: &mut FdtWriter, watchdog: bool) -> Result<(), Error> {
    let clock = tree.begin_node("primecell-clock")?;
    tree.property_string("compatible", "fixed-clock")?;
    tree.property_u32("#clock-cells", 0)?;
    tree.property_u32("clock-frequency", sp805::CLOCK_HZ)?;
    tree.property_phandle(PRIMECELL_CLOCK_PHANDLE)?;
    tree.end_node(clock)?;
    primecell(tree, "rtc", "arm,pl031", layout::RTC_BASE, pl031::IDENTITY, &["apb_pclk"])?;
    if watchdog {
        let clocks = ["wdog_clk", "apb_pclk"];
        primecell(tree, "watchdog", "arm,sp805", layout::WATCHDOG_BASE, sp805::IDENTITY, &clocks)?;
    }
    Ok(())
}

fn primecell(
    tree: &mut FdtWriter,
    name: &str,
    compatible: &str,
    base: u64,
    identity: Identity,
    clocks: &[&str],
) -> Result<(), Error> {
    let node = tree.begin_node(&format!("{name}@{base:x}"))?;
    tree.property_string_list("compatible", vec![compatible.into(), "arm,primecell".into()])?;
    // Spares the kernel eight reads, each an exit.
    tree.property_u32("arm,primecell-periphid", identity.0)?;
    tree.property_array_u64("reg", &[base, primecell::LENGTH])?;
    tree.property_array_u32("clocks", &vec![PRIMECELL_CLOCK_PHANDLE; clocks.len()])?;
    tree.property_string_list("clock-names", clocks.iter().map(|&name| name.into()).collect())?;
    tree.end_node(node)
}

fn pvpanic(tree: &mut FdtWriter) -> Result<(), Error> {
    let node = tree.begin_node(&format!("pvpanic@{:x}", layout::PANIC_BASE))?;
    tree.property_string("compatible", "qemu,pvpanic-mmio")?;
    tree.property_array_u64("reg", &[layout::PANIC_BASE, pvpanic::LENGTH])?;
    tree.end_node(node)
}

/// A key that is an interrupt and nothing else: its driver presses and releases it.
fn power_button(tree: &mut FdtWriter) -> Result<(), Error> {
    let node = tree.begin_node("gpio-keys")?;
    tree.property_string("compatible", "gpio-keys")?;
    let key = tree.begin_node("power")?;
    tree.property_string("label", "Power Button")?;
    tree.property_u32("linux,code", KEY_POWER)?;
    tree.property_array_u32("interrupts", &[SPI, layout::POWER_BUTTON_GSI, EDGE_RISING])?;
    tree.end_node(key)?;
    tree.end_node(node)
}

fn generation_id(tree: &mut FdtWriter, ram: u64) -> Result<(), Error> {
    let place = layout::RAM.0 + ram;
    let node = tree.begin_node(&format!("vmgenid@{place:x}"))?;
    tree.property_string("compatible", "microsoft,vmgenid")?;
    tree.property_array_u64("reg", &[place, generation::LENGTH as u64])?;
    tree.property_array_u32("interrupts", &[SPI, layout::GENERATION_GSI, EDGE_RISING])?;
    tree.end_node(node)
}

fn virtio(tree: &mut FdtWriter, slot: MmioSlot) -> Result<(), Error> {
    let node = tree.begin_node(&format!("virtio_mmio@{:x}", slot.base))?;
    tree.property_string("compatible", "virtio,mmio")?;
    tree.property_array_u64("reg", &[slot.base, 0x1000])?;
    tree.property_array_u32("interrupts", &[SPI, slot.interrupt, EDGE_RISING])?;
    tree.property_null("dma-coherent")?;
    tree.end_node(node)
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestAddress;

    use super::*;

    #[test]
    fn the_tree_names_the_host_s_gic_and_every_device() {
        let slots: Vec<_> = (0..3).filter_map(layout::mmio_slot).collect();
        for (gic, name) in [(Gic::V2, "arm,cortex-a15-gic"), (Gic::V3, "arm,gic-v3")] {
            let initrd = Some(Extent { start: GuestAddress(0x4800_0000), length: 5 });
            let fittings = Fittings { vcpus: 2, slots: &slots, serial: true, watchdog: true };
            let mut facts =
                Facts { ram: 1 << 27, fittings, gic, cmdline: "quiet", initrd, seed: Seed::of_host() };
            let tree = build(&facts).unwrap();
            assert_eq!(tree[..4], 0xd00d_feed_u32.to_be_bytes());
            let has = |text: &str| tree.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(has(name) && has("virtio_mmio@a002000") && has("cpu@1") && has("linux,initrd-start"));
            assert!(has("serial@9000000") && has("stdout-path"));

            let seed = facts.seed.take().unwrap();
            assert!(has("rng-seed") && has("kaslr-seed"));
            assert!(tree.windows(64).any(|window| window == seed.generator));

            facts.fittings.serial = false;
            let without = build(&facts).unwrap();
            let has = |text: &str| without.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!has("serial") && !has("stdout-path"), "nothing of a port that is not there");
            assert!(!has("-seed"), "and no seed of a host that has none");
        }
    }
}
