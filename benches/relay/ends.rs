//! A short message from one person to another, directly and by the relay: whole programs.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::peers::Relay;
use super::programs::{Running, home, ready};
use super::{Pair, interleaved, median};

fn keygen(home: &Path, args: &[&str]) -> io::Result<()> {
    let done = Command::new(env!("CARGO_BIN_EXE_ac-keygen"))
        .args(args)
        .env("AC_HOME", home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if done.success() { Ok(()) } else { Err(io::Error::other("ac-keygen failed")) }
}

/// Milliseconds from start to exit 0 of `echo hi | ac-send args`.
fn send(home: &Path, args: &[&str]) -> io::Result<f64> {
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ac-send"))
        .args(args)
        .env("AC_HOME", home)
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(b"hi\n")?;
    }
    let done = child.wait()?;
    if !done.success() {
        return Err(io::Error::other(format!("ac-send {args:?}: {done}")));
    }
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// Medians of `runs` messages, directly and by `relay`.
pub fn latency(relay: &Relay, runs: u64) -> io::Result<()> {
    let (alice, bob) = (home()?, home()?);
    for home in [&alice, &bob] {
        keygen(home.path(), &[])?;
        let file = home.path().join("relay.toml");
        std::fs::write(&file, &relay.text)?;
        keygen(home.path(), &["--import", &file.to_string_lossy(), "--as", "home"])?;
    }
    for (one, other, name) in [(&alice, &bob, "bob"), (&bob, &alice, "alice")] {
        let file = other.path().join("identity.pub");
        keygen(one.path(), &["--import", &file.to_string_lossy(), "--as", name])?;
    }
    let via = format!("home@{}", relay.at);
    let mut listener = Command::new(env!("CARGO_BIN_EXE_ac-listen"))
        .args(["127.0.0.1:0", "--via", &via])
        .env("AC_HOME", bob.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let at = ready(&mut listener)?;
    let _listener = Running(listener);
    let direct = format!("bob@{at}");
    // Until it reads its mailboxes.
    send(alice.path(), &["-w", "20s", "--via", &via, "bob"])?;
    let by_relay = || send(alice.path(), &["--via", &via, "bob"]);
    let Pair { mut ours, mut theirs } =
        interleaved(runs, by_relay, || send(alice.path(), &[&direct]))?;
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    writeln!(
        io::stdout(),
        "a short message, start to acknowledged exit: {ours:.2} ms by relay, {theirs:.2} ms \
         directly: {:.2} x",
        ours / theirs
    )
}
