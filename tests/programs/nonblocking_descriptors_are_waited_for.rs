//! A pipe or terminal is non-blocking for all who share it once one of them has made it so: that is
//! no error of stdin or stdout.

use crate::testkit::common;

use std::io::{Read as _, Write as _, pipe};
use std::os::fd::AsFd;
use std::thread::JoinHandle;

use common::{DEADLINE, Listener, Running, alice_and_bob, eventually};
use rustix::fs::{OFlags, fcntl_setfl};

fn never_block(fd: impl AsFd) {
    fcntl_setfl(fd, OFlags::NONBLOCK).unwrap();
}

#[test]
fn what_is_slow_at_both_ends_arrives() {
    let (alice, bob) = alice_and_bob();
    let (mut reader, stdout) = pipe().unwrap();
    never_block(&stdout);
    let mut command = bob.command("ac-listen", &["-1", "127.0.0.1:0"]);
    command.stdout(stdout);
    let mut listener = Listener::start(command);
    let (stdin, mut writer) = pipe().unwrap();
    never_block(&stdin);
    let mut command = alice.command("ac-send", &[&listener.destination("bob")]);
    command.stdin(stdin);
    let mut sender = Running::start(command);
    // More than the pipe and all buffers on the way hold, so that each end has to wait.
    let message = vec![b'x'; 4 << 20];
    let said = message.clone();
    let saying = std::thread::spawn(move || drop(writer.write_all(&said)));
    let full = || (rustix::io::ioctl_fionread(&reader).unwrap() >= 60_000).then_some(());
    eventually("a full pipe", DEADLINE, full);
    let hearing: JoinHandle<Vec<u8>> = std::thread::spawn(move || {
        let mut heard = Vec::new();
        reader.read_to_end(&mut heard).unwrap();
        heard
    });
    assert!(sender.wait_exit(DEADLINE).success(), "{}", sender.stderr());
    assert!(listener.wait_exit(DEADLINE).success(), "{}", listener.stderr());
    saying.join().unwrap();
    assert!(hearing.join().unwrap() == message);
}
