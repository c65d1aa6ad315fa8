//! What the core wants done with one machine.
//!
//! Duty: from an [`Order`] to the machine that it is for, as it is set up now. Not here: the machine itself
//! (`machine.rs`), questions to it (`asking.rs`).

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use hearth_config::workload::WorkloadConfig;
use hearth_core::{Build, Event, HEARTBEAT, Order, Said, StartHow, Vm};
use nix::sys::signal::Signal;

use super::Daemon;
use crate::api::Question;
use crate::asking;
use crate::machine::{Machine, Reporter, What};
use crate::setup::{control_socket, vm_folder};
use crate::wording;

impl Daemon {
    /// What the core wants of one machine; what came of it at once.
    pub(super) fn order(&mut self, vm: Vm, order: &Order) -> Option<Event> {
        match order {
            Order::Start { build, how } => {
                return self.start(vm, *build, *how).map(|said| Event::Vm { vm, said });
            }
            Order::AskAgent { grace } => {
                if let Some(machine) = self.machine(vm) {
                    machine.ask_to_stop(*grace);
                }
            }
            Order::Terminate => self.signal(vm, Signal::SIGTERM),
            Order::Kill => self.signal(vm, Signal::SIGKILL),
            Order::Probe { probe, timeout } => self.ask(vm, *probe, *timeout),
            Order::Balloon { mib } => {
                if self.machine(vm).is_some() {
                    asking::balloon(&self.executor, self.control(vm), *mib, self.reporter(vm));
                }
            }
            Order::RestartProcess => {
                if let Some(machine) = self.machine(vm) {
                    machine.restart_process();
                }
            }
            Order::Snapshot => self.snapshot(vm),
            // Nothing routes traffic yet.
            Order::Traffic { .. } => {}
        }
        None
    }

    fn ask(&self, vm: Vm, place: u8, timeout: Duration) {
        let name = self.core.name(vm.replica.workload).unwrap_or_default();
        let probe = self.setup.workload(name).and_then(|workload| workload.probes.get(usize::from(place)));
        if let Some((machine, probe)) = self.machine(vm).zip(probe) {
            let question = (place, &probe.check, timeout);
            machine.ask(&self.executor, self.control(vm), question, self.reporter(vm));
        }
    }

    /// Where the monitor of a machine takes requests.
    fn control(&self, vm: Vm) -> PathBuf {
        let name = self.core.name(vm.replica.workload).unwrap_or_default();
        let replica = wording::replica(name, vm.replica.slot);
        control_socket(&vm_folder(&self.setup.device.paths.state, &replica))
    }

    /// Has a machine like this one become a snapshot.
    fn snapshot(&mut self, vm: Vm) {
        let name = self.core.name(vm.replica.workload).unwrap_or_default();
        let build =
            self.machines.get(&vm.replica).filter(|machine| machine.vm == vm).map(|machine| machine.build);
        let (builds, contents) = (&mut self.builds, &mut self.contents);
        let known = build.and_then(|build| Some((build.version, builds.get(name, build.version, contents)?)));
        let reporter = self.reporter(vm);
        if let Some((version, workload)) = known {
            let (executor, paths) = (&self.executor, &self.setup.device.paths);
            return self.warm.make(executor, paths, &mut self.contents, &workload, version, reporter);
        }
        // It ended just now, or nobody knows how it was made.
        self.executor.spawn(async move { reporter.report(What::Snapshot { taken: false }).await }).detach();
    }

    /// Starts a machine; what the core has to know at once.
    fn start(&mut self, vm: Vm, build: Build, how: StartHow) -> Option<Said> {
        self.lives.remove(&vm.replica);
        let name = self.core.name(vm.replica.workload).unwrap_or_default();
        let kept = self.builds.get(name, build.version, &mut self.contents);
        let Some(workload) = kept.clone().or_else(|| self.setup.workload(name).cloned().map(Rc::new)) else {
            return Some(Said::NotSpawned("its file is gone".to_owned()));
        };
        if kept.is_some() {
            self.builds.kept.keep(&self.executor, &self.console, &workload, build.version);
        } else {
            // It could not be kept, and its file was changed. What is there serves better than nothing.
            let line = format!(
                "{name}: its version {} is not known any more, that of its file is started",
                build.version
            );
            self.console.say(&line);
        }
        let wanted = how == StartHow::Restore;
        let paths = &self.setup.device.paths;
        // What is started in place of a version that nobody knows any more is not what its snapshot is of.
        let snapshot = (wanted && kept.is_some())
            .then(|| self.warm.find(name, build.version, paths, &mut self.contents))
            .flatten();
        let reporter = self.reporter(vm);
        match Machine::start(&self.executor, &self.setup, &workload, build, snapshot.as_deref(), reporter) {
            Ok(machine) => {
                self.machines.insert(vm.replica, machine);
                (wanted && snapshot.is_none()).then_some(Said::SnapshotGone)
            }
            Err(error) => Some(Said::NotSpawned(wording::one_line(&error))),
        }
    }

    pub(super) fn reporter(&self, vm: Vm) -> Reporter {
        let name = self.core.name(vm.replica.workload).unwrap_or_default();
        let beats = self.setup.workload(name).and_then(WorkloadConfig::heartbeat);
        Reporter {
            vm,
            name: wording::replica(name, vm.replica.slot).into(),
            workload: name.into(),
            console: self.console.clone(),
            logs: self.logs.clone(),
            screens: self.screens.clone(),
            reports: self.reports.clone(),
            guests: self.guests.clone(),
            heartbeat: beats.unwrap_or(HEARTBEAT),
        }
    }

    pub(super) fn machine(&self, vm: Vm) -> Option<&Machine> {
        self.machines.get(&vm.replica).filter(|machine| machine.vm == vm)
    }

    /// Kills the monitors of whom somebody wants to see healed.
    pub(super) fn strike(&self, question: &Question) {
        let Some(workload) = question.victim(&self.core) else { return };
        for machine in self.machines.values().filter(|machine| machine.vm.replica.workload == workload) {
            let name = self.core.name(workload).unwrap_or_default();
            let replica = wording::replica(name, machine.vm.replica.slot);
            self.console.say(&format!("{replica}: somebody wants to see its machine crash: SIGKILL"));
            machine.signal(Signal::SIGKILL);
        }
    }

    fn signal(&self, vm: Vm, signal: Signal) {
        if let Some(machine) = self.machine(vm) {
            machine.signal(signal);
        }
    }
}
