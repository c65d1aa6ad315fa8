//! Where the API listens.
//!
//! Duty: the daemon's own socket, and a loopback port with a token if the box's file wants one. Not here: connections
//! (`api`). Invariant: a box without an API does its work as well, and says why it has none.

use std::rc::Rc;

use smol::Task;
use smol::channel::Sender;
use smol::net::TcpListener;

use super::Daemon;
use crate::api::Ask;
use crate::api::server::{self, Door, Socket};
use crate::api::token::Token;
use crate::setup::api_socket;
use crate::wording;

impl Daemon {
    /// Each of them serves until it is dropped.
    pub(super) fn open_the_doors(&mut self, asks: Sender<Ask>) -> Vec<Task<()>> {
        let door = Door {
            asks,
            events: Rc::clone(&self.events),
            logs: self.logs.clone(),
            screens: self.screens.clone(),
            places: Rc::default(),
            state: self.setup.device.paths.state.clone(),
            console: self.console.clone(),
        };
        self.door = Some(door.clone());
        self.open_socket(&door).into_iter().chain(self.open_port(&door)).collect()
    }

    fn open_socket(&self, door: &Door) -> Option<Task<()>> {
        match Socket::bind(&api_socket(&self.setup.device.paths.state)) {
            Ok(socket) => {
                Some(self.executor.spawn(server::serve(socket, door.clone(), Rc::clone(&self.executor))))
            }
            Err(error) => {
                self.console.say(&format!("no API: {}", wording::one_line(&error)));
                None
            }
        }
    }

    fn open_port(&self, door: &Door) -> Option<Task<()>> {
        let api = &self.setup.device.api;
        let address = api.tcp?;
        let refuse = |why: String| self.console.say(&format!("no API at {address}: {why}"));
        let token = match Token::of(&api.token_file) {
            Ok((token, made)) => {
                if made {
                    self.console.say(&format!("API: a token was made, {}", api.token_file.display()));
                }
                token
            }
            Err(error) => {
                refuse(wording::one_line(&error));
                return None;
            }
        };
        // Of the standard library: a port that a daemon has just left is free for the next one.
        match std::net::TcpListener::bind(address).and_then(TcpListener::try_from) {
            Ok(listener) => {
                let serving =
                    server::serve_port(listener, Rc::new(token), door.clone(), Rc::clone(&self.executor));
                Some(self.executor.spawn(serving))
            }
            Err(error) => {
                refuse(error.to_string());
                None
            }
        }
    }
}
