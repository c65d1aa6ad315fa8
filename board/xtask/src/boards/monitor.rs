//! QEMU's monitor, for what is done to a board from outside.
//!
//! Duty: one command at a time, and its answer. Not here: when to give which.
//! Invariant: nobody holds it: QEMU hears one at a time, and each command comes and goes by itself.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

/// QEMU answers its monitor at once, or never.
const PATIENCE: Duration = Duration::from_secs(5);
/// Its name of the network card, see `qemu`.
pub(super) const CARD: &str = "card";

/// Where QEMU listens.
#[derive(Clone, Debug)]
pub(crate) struct Monitor(PathBuf);

impl Monitor {
    pub(crate) fn at(socket: &Path) -> Monitor {
        Monitor(socket.to_owned())
    }

    pub(crate) fn press_the_power_button(&self) -> io::Result<()> {
        self.run("system_powerdown", &json!({})).map(drop)
    }

    /// One that types nothing by itself.
    pub(super) fn press_a_key(&self) -> io::Result<()> {
        self.run("send-key", &json!({ "keys": [{ "type": "qcode", "data": "ctrl" }] })).map(drop)
    }

    /// The card's cable, plugged in or not.
    pub(crate) fn plug_in(&self, plugged: bool) -> io::Result<()> {
        self.run("set_link", &json!({ "name": CARD, "up": plugged })).map(drop)
    }

    /// What QEMU's own network is doing, in its words.
    pub(crate) fn network(&self) -> io::Result<String> {
        let told = self.run("human-monitor-command", &json!({ "command-line": "info usernet" }))?;
        Ok(told.as_str().unwrap_or_default().to_owned())
    }

    /// Greeting, then each command has one answer; what happens meanwhile is told between.
    fn run(&self, command: &str, arguments: &Value) -> io::Result<Value> {
        let stream = UnixStream::connect(&self.0)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut answers = BufReader::new(stream.try_clone()?).lines();
        let mut answer = |key: &str| {
            for line in answers.by_ref() {
                let mut told: Value = serde_json::from_str(&line?)?;
                if let Some(error) = told.get("error") {
                    return Err(io::Error::other(error.to_string()));
                }
                if let Some(value) = told.get_mut(key) {
                    return Ok(value.take());
                }
            }
            Err(io::ErrorKind::UnexpectedEof.into())
        };
        answer("QMP")?;
        writeln!(&stream, "{}", json!({ "execute": "qmp_capabilities" }))?;
        answer("return")?;
        writeln!(&stream, "{}", json!({ "execute": command, "arguments": arguments }))?;
        answer("return")
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// A QEMU that says this to a command.
    fn qemu(folder: &Path, answer: &'static str) -> Monitor {
        let socket = folder.join("qmp");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            writeln!(&stream, "{}", json!({ "QMP": {} })).unwrap();
            lines.next();
            writeln!(&stream, "{}", json!({ "return": {} })).unwrap();
            lines.next();
            writeln!(&stream, "{answer}").unwrap();
        });
        Monitor::at(&socket)
    }

    #[test]
    fn an_answer_is_told_from_what_happens_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let answer = "{\"event\": \"NIC_RX_FILTER_CHANGED\"}\n{\"return\": \"TCP\"}";
        assert_eq!(qemu(folder.path(), answer).network().unwrap(), "TCP");
    }

    #[test]
    fn a_command_that_qemu_refuses_is_an_error_in_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let answer = "{\"error\": {\"class\": \"DeviceNotFound\"}}";
        let error = qemu(folder.path(), answer).plug_in(false).unwrap_err();
        assert!(error.to_string().contains("DeviceNotFound"), "{error}");
        assert!(Monitor::at(Path::new("/none")).press_the_power_button().is_err());
    }
}
