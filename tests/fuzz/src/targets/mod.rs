//! One module for each target: what it drives, and what has to hold.

pub mod balloon;
pub mod block;
pub mod config;
pub mod console;
pub mod control;
pub mod kernel;
pub mod mmio;
pub mod mqtt;
pub mod net;
pub mod platform;
pub mod rng;
pub mod state;
pub mod vsock;
pub mod wire;
