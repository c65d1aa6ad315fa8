//! Where one machine's clients come in.
//!
//! Duty: accept, and no more than are served. Not here: what clients say (`client`).
//! Invariant: a guest that connects without end takes its own places, and turns like everybody else.

use std::time::Duration;

use smol::channel::Receiver;
use smol::future::{or, yield_now};
use smol::net::unix::UnixListener;
use smol::{Task, Timer};

use super::client;
use crate::machine::Reporter;

/// Clients of one machine: what the agent in it leads here, which the guest may go around.
const MAX_CLIENTS: usize = 8;
/// After a failed accept (out of descriptors, say): not a busy loop.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Serves the clients of one machine until `gone` closes and no connection waits any more; then what they said last is
/// heard.
pub(crate) async fn serve(listener: Option<UnixListener>, gone: Receiver<()>, reporter: Reporter) {
    let Some(listener) = listener else { return };
    let mut clients: Vec<Task<()>> = Vec::new();
    loop {
        yield_now().await;
        let accept = async { Some(listener.accept().await) };
        let stop = async {
            let _ = gone.recv().await;
            None
        };
        match or(accept, stop).await {
            None => break,
            Some(Ok((stream, _))) => {
                clients.retain(|client| !client.is_finished());
                let Some(executor) = reporter.guests.0.executor.upgrade() else { return };
                // One too many sees a closed connection.
                if clients.len() < MAX_CLIENTS {
                    let seat = reporter
                        .guests
                        .sit_down(std::rc::Rc::clone(&reporter.workload), std::rc::Rc::clone(&reporter.name));
                    clients.push(executor.spawn(client::serve(stream, seat)));
                }
            }
            Some(Err(error)) => {
                reporter.complain(&format!("its telemetry cannot connect: {error}"));
                Timer::after(ACCEPT_AGAIN).await;
            }
        }
    }
    for client in clients {
        client.await;
    }
}
