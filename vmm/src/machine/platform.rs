//! What every machine has besides virtio and a serial port, and the watchdog of one that asks for it.

use std::sync::Arc;

use hearth_config::vm::VmConfig;

use super::board::Board;
use super::{Ending, MachineClock, MachineError};
use crate::arch::{self, PlatformError, layout};
use crate::devices::generation::GenerationId;
use crate::devices::power_button::PowerButton;

impl From<PlatformError> for MachineError {
    fn from(error: PlatformError) -> Self {
        match error {
            PlatformError::Layout(overlap) => Self::Layout(overlap),
            PlatformError::Timer(source) => Self::Host("make a timer for the watchdog", source),
        }
    }
}

impl Board<'_> {
    pub(super) fn add_watchdog(
        &mut self,
        config: &VmConfig,
        clock: &Arc<MachineClock>,
        ending: &Arc<Ending>,
    ) -> Result<(), MachineError> {
        if config.watchdog.is_none() {
            return Ok(());
        }
        let dogs = arch::add_watchdogs(&mut self.buses.pio, &mut self.buses.mmio, clock, ending)?;
        for dog in dogs {
            self.duty.serve(&mut self.events, dog.timer);
            self.parts.push(dog.part);
        }
        Ok(())
    }

    /// The button, for whoever may press it.
    pub(super) fn power_button(&self) -> Result<PowerButton, MachineError> {
        Ok(PowerButton::new(self.interrupt(layout::POWER_BUTTON_GSI)?))
    }

    /// The place of the generation ID, which is still to be drawn.
    pub(super) fn generation_id(&self) -> Result<GenerationId, MachineError> {
        let interrupt = self.interrupt(layout::GENERATION_GSI)?;
        Ok(GenerationId::new(self.memory.clone(), arch::generation_id(self.memory), interrupt))
    }
}
