//! A stand-in for `hearth-vmm run FILE`, `template FILE FOLDER ...` and `restore --config FILE FOLDER`: no virtual machine,
//! but an agent's side of the conversation.
//!
//! What it does is the workload's command, which it finds on the kernel command line like a guest would.

#![forbid(unsafe_code)]

mod control;
mod programs;

use std::path::Path;
use std::process::exit;
use std::time::Duration;

use async_signal::{Signal, Signals};
use hearth_config::vm::VmConfig;
use hearth_wire::{
    AGENT_PORT, Decoder, ExitStatus, FromAgent, MAX_FRAME, Output, Question, Stream, ToAgent, Version, encode,
};
use smol::Timer;
use smol::future::or;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::unix::UnixStream;
use smol::stream::StreamExt;

const STOPPED_BY_HOST: i32 = 16;
/// How often to look for a new daemon.
const RECONNECT: Duration = Duration::from_millis(20);

enum Turn {
    Signal,
    Beat,
    Read(usize),
}

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    // It has no jail.
    args.truncate(args.iter().position(|word| word == "--netns").unwrap_or(args.len()));
    let (file, snapshot) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", file] => (file, None),
        ["template", file, folder, ..] => exit(template(Path::new(file), Path::new(folder))),
        ["restore", "--config", file, folder] => (file, Some(Path::new(folder))),
        _ => panic!("run FILE, template FILE FOLDER or restore --config FILE FOLDER, not {args:?}"),
    };
    let vm = VmConfig::load(Path::new(file)).expect("what the daemon wrote is good");
    if let Some(folder) = snapshot {
        if std::fs::read(folder.join("memory")).is_ok_and(|memory| memory == b"bad") {
            eprintln!("hearth-vmm: {}/state: is bad", folder.display());
            exit(2);
        }
        println!("guest goes on as {}", vm.identity.hostname.as_deref().unwrap_or_default());
    }
    let words: Vec<&str> = vm.boot.cmdline.split(" -- ").nth(1).unwrap_or_default().split(' ').collect();
    let socket = vm.vsock.expect("a vsock device").socket;
    programs::take_calls(&socket);
    control::take_requests(
        vm.control.map(|control| control.socket),
        vm.snapshot.map(|snapshot| snapshot.folder),
    );
    let mut socket = socket.into_os_string();
    socket.push(format!("_{AGENT_PORT}"));
    let code = smol::block_on(run(&words, Path::new(&socket)));
    exit(code);
}

/// A guest that says "template-fails" is never warm, one that says "template-hangs" is not yet.
fn template(file: &Path, folder: &Path) -> i32 {
    let vm = VmConfig::load(file).expect("what the daemon wrote is good");
    if vm.boot.cmdline.contains("template-fails") {
        eprintln!("hearth-vmm: the guest's agent did not say that it is warm");
        return 1;
    }
    while vm.boot.cmdline.contains("template-hangs") {
        std::thread::park();
    }
    std::fs::create_dir(folder).expect("the daemon made all above it");
    std::fs::write(folder.join("memory"), "warm").expect("a file");
    0
}

async fn run(words: &[&str], socket: &Path) -> i32 {
    let mut signals = Signals::new([Signal::Term]).expect("signals");
    // Not before: who reads this may send a signal.
    println!("guest kernel speaking");
    eprintln!("hearth-vmm: warn: monitor speaking");
    match words {
        ["crash", code] => return code.parse().expect("a number"),
        ["mute"] => {
            signals.next().await;
            return STOPPED_BY_HOST;
        }
        _ => {}
    }
    let mut stream =
        UnixStream::connect(socket).await.expect("the daemon listens before it starts a monitor");
    if words == ["garbage"] {
        stream.write_all(&[0xff; 64]).await.expect("the daemon reads");
        signals.next().await;
        return STOPPED_BY_HOST;
    }
    if words == ["rude"] {
        send(&mut stream, &FromAgent::Started { pid: 2 }).await;
        signals.next().await;
        return STOPPED_BY_HOST;
    }
    greet(&mut stream).await;
    match words {
        ["exit", code] => {
            say(&mut stream, b"half a li").await;
            say(&mut stream, b"ne\nand an unfinished one").await;
            let status = ExitStatus::Code(code.parse().expect("a number"));
            send(&mut stream, &FromAgent::Exited { status }).await;
            0
        }
        ["burst"] => {
            for _ in 0..100 {
                say(&mut stream, &[b'x'; 900]).await;
            }
            say(&mut stream, b"\nlast word").await;
            send(&mut stream, &FromAgent::Exited { status: ExitStatus::Code(0) }).await;
            for number in 0..60 {
                println!("{number:0>900}");
            }
            println!("last word of the kernel");
            0
        }
        ["flood"] => {
            for number in 0..20_000 {
                say(&mut stream, format!("{number:0>900}\n").as_bytes()).await;
            }
            serve(stream, socket, signals, Obedience::Good).await
        }
        ["endless"] => {
            let flood = async {
                loop {
                    say(&mut stream, &[b'\n'; 900]).await;
                    // To see a signal even if the daemon takes all as fast as it comes.
                    smol::future::yield_now().await;
                }
            };
            let signal = async {
                signals.next().await;
            };
            or(signal, flood).await;
            STOPPED_BY_HOST
        }
        ["show"] => {
            println!("\u{1b}[2Jcolour");
            serve(stream, socket, signals, Obedience::Good).await
        }
        ["deaf"] => serve(stream, socket, signals, Obedience::OnlySignals).await,
        ["stubborn"] => serve(stream, socket, signals, Obedience::None).await,
        _ => serve(stream, socket, signals, Obedience::Good).await,
    }
}

#[derive(PartialEq)]
enum Obedience {
    Good,
    OnlySignals,
    None,
}

async fn serve(mut stream: UnixStream, socket: &Path, mut signals: Signals, obedience: Obedience) -> i32 {
    say(&mut stream, b"serving\n").await;
    let mut decoder = Decoder::new();
    let mut buffer = [0; 512];
    let mut seq = 0;
    let mut restarts = 0;
    loop {
        let mut reader = stream.clone();
        let signal = async {
            signals.next().await;
            Turn::Signal
        };
        let beat = async {
            Timer::after(Duration::from_secs(1)).await;
            Turn::Beat
        };
        let read = async { Turn::Read(reader.read(&mut buffer).await.unwrap_or_default()) };
        match or(signal, or(beat, read)).await {
            Turn::Signal if obedience == Obedience::None => {}
            Turn::Signal => return STOPPED_BY_HOST,
            Turn::Beat => {
                seq += 1;
                send(&mut stream, &FromAgent::Heartbeat { seq, uptime_ms: 312 }).await;
            }
            Turn::Read(0) => match connect_anew(socket).await {
                Some(anew) => {
                    stream = anew;
                    decoder = Decoder::new();
                }
                None => return 1,
            },
            Turn::Read(length) => {
                assert!(decoder.push(&buffer[..length]).is_empty(), "requests are small");
                while let Some(message) = decoder.pop::<ToAgent>().expect("good frames") {
                    if matches!(message, ToAgent::Shutdown { .. }) && obedience == Obedience::Good {
                        say(&mut stream, b"asked to stop\n").await;
                        send(&mut stream, &FromAgent::Exited { status: ExitStatus::Signal(15) }).await;
                        return 0;
                    }
                    match message {
                        ToAgent::Ask { id, question, .. } => {
                            send(
                                &mut stream,
                                &FromAgent::Answered { id, good: is_well(&question, restarts) },
                            )
                            .await;
                        }
                        ToAgent::Restart { .. } => {
                            restarts += 1;
                            send(&mut stream, &FromAgent::Exited { status: ExitStatus::Signal(15) }).await;
                            send(&mut stream, &FromAgent::Started { pid: 3 }).await;
                            say(&mut stream, b"begun anew\n").await;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

/// What is asked says itself whether the answer is good.
fn is_well(question: &Question, restarts: u32) -> bool {
    match question {
        Question::Exec(words) => match words.split(|byte| *byte == 0).next() {
            Some(b"well-when-begun-anew") => restarts > 0,
            word => word == Some(b"well"),
        },
        Question::Tcp { port } => *port == 80,
        Question::Http { port, path } => *port == 80 && path == "/well",
    }
}

/// As an agent does when its daemon is gone. `None`: so is the whole site.
async fn connect_anew(socket: &Path) -> Option<UnixStream> {
    while socket.parent().is_some_and(Path::exists) {
        if let Ok(mut stream) = UnixStream::connect(socket).await {
            greet(&mut stream).await;
            return Some(stream);
        }
        Timer::after(RECONNECT).await;
    }
    None
}

async fn greet(stream: &mut UnixStream) {
    let version = Version::try_from("fake").expect("short");
    send(stream, &FromAgent::Hello { protocol: 1, agent_version: version, uptime_ms: 312 }).await;
    send(stream, &FromAgent::Started { pid: 2 }).await;
}

async fn say(stream: &mut UnixStream, text: &[u8]) {
    let bytes = Output::from_slice(text).expect("short");
    send(stream, &FromAgent::Output { stream: Stream::Stdout, bytes }).await;
}

async fn send(stream: &mut UnixStream, message: &FromAgent) {
    let mut buffer = [0; MAX_FRAME];
    let frame = encode(message, &mut buffer).expect("fits");
    // A daemon that is gone is noticed where it is listened to.
    let _ = stream.write_all(frame).await;
}
