//! Emulators, sandboxes and old kernels that lack some system calls: there is another way for each.
//!
//! `strace` lets the calls fail as they do there: ENOSYS under qemu-user and gVisor, EPERM where
//! filters forbid what they do not know, EOPNOTSUPP of an older kernel.

use crate::testkit::common;

use std::fs;
use std::process::Command;

use common::{DEADLINE, Home, Listener, Running, assert_code, befriend, need, run};

/// Those for which there is another call, or which are not needed.
const CALLS: &str = "preadv2,pwritev2,splice,openat2,statx,renameat2,syncfs,recvmmsg,prlimit64,\
     utimensat,statfs,fstatfs,pidfd_open,close_range,getrandom";

/// Two people on a system where `calls` fail with `error`.
struct System {
    alice: Home,
    bob: Home,
    calls: &'static str,
    error: &'static str,
}

impl System {
    /// `None` where the test cannot be run.
    fn lacking(calls: &'static str, error: &'static str) -> Option<Self> {
        if !need("strace") {
            return None;
        }
        let (alice, bob) = (Home::with_identity(), Home::with_identity());
        befriend(&alice, "alice", &bob, "bob");
        Some(Self { alice, bob, calls, error })
    }

    fn command(&self, home: &Home, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new("strace");
        let (trace, inject) = (
            format!("trace={}", self.calls),
            format!("inject={}:error={}", self.calls, self.error),
        );
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
        command.arg(common::program(name)).args(args);
        home.at_home(&mut command);
        command
    }

    fn listen(&self, args: &[&str]) -> Listener {
        Listener::start(self.command(&self.bob, "ac-listen", &[args, &["127.0.0.1:0"]].concat()))
    }

    fn send(&self, args: &[&str], stdin: &[u8]) -> std::process::Output {
        run(self.command(&self.alice, "ac-send", args), stdin, DEADLINE)
    }

    fn pipes_carry_messages(&self) {
        let long = vec![b'x'; 1_000_000];
        let mut listener = self.listen(&["-1"]);
        assert_code(&self.send(&[&listener.destination("bob")], &long), 0);
        assert!(listener.wait_exit(DEADLINE).success());
        assert!(listener.stdout() == long);
    }

    fn streams_go_both_ways(&self) {
        let long = vec![b'x'; 1_000_000];
        let mut listener = self.listen(&["-1", "-e", "cat"]);
        let sent = self.send(&["-b", &listener.destination("bob")], &long);
        assert_code(&sent, 0);
        assert!(sent.stdout == long);
        assert!(listener.wait_exit(DEADLINE).success());
    }

    fn files_and_folders_land(&self) {
        let inbox = self.bob.path().join("inbox");
        let folder = self.alice.path().join("folder");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("one"), b"1").unwrap();
        fs::create_dir(&inbox).unwrap();
        let mut listener = self.listen(&["-1", "-d", inbox.to_str().unwrap()]);
        let (folder, to) = (folder.to_str().unwrap(), listener.destination("bob"));
        let file = format!("{folder}/one");
        assert_code(&self.send(&[&to, "--", folder, &file], b""), 0);
        assert!(listener.wait_exit(DEADLINE).success());
        let landed = fs::read_dir(&inbox).unwrap().map(|e| e.unwrap().file_name());
        let visible = landed.filter(|name| !name.to_str().unwrap().starts_with('.'));
        assert_eq!(visible.count(), 2);
    }

    fn datagrams_arrive(&self) {
        let mut listener = self.listen(&["-1", "-u"]);
        assert_code(&self.send(&["-u", &listener.destination("bob")], b"hi\n"), 0);
        assert!(listener.wait_exit(DEADLINE).success());
        assert_eq!(listener.stdout(), b"hi\n");
    }

    fn circuits_join(&self) {
        let home = Home::new();
        let relay = Running::start(self.command(&home, "ac-relay", &["127.0.0.1:0"]));
        let port = common::port_in_ready_line(&relay.wait_stderr("listening on ")).unwrap();
        for person in [&self.alice, &self.bob] {
            let file = person.path().join("relay.pub");
            fs::write(&file, relay.stdout()).unwrap();
            let args = ["--import", file.to_str().unwrap(), "--as", "home"];
            assert_code(&person.keygen(&args), 0);
        }
        let via = format!("home@127.0.0.1:{port}");
        let args = ["--via", &via, "-1", "-e", "cat"];
        let mut listener = Running::start(self.command(&self.bob, "ac-listen", &args));
        listener.wait_stderr("listening at relay");
        let long = vec![b'x'; 1_000_000];
        let sent = self.send(&["--via", &via, "-b", "bob"], &long);
        assert_code(&sent, 0);
        assert!(sent.stdout == long);
        assert!(listener.wait_exit(DEADLINE).success());
    }

    fn all(&self) {
        self.pipes_carry_messages();
        self.streams_go_both_ways();
        self.files_and_folders_land();
        self.datagrams_arrive();
        self.circuits_join();
    }
}

#[test]
fn everything_works_where_calls_do_not_exist() {
    let Some(system) = System::lacking(CALLS, "ENOSYS") else { return };
    system.all();
}

#[test]
fn everything_works_where_a_filter_forbids_calls() {
    // Those of them that filters are known to be stricter about than libraries.
    let calls = "preadv2,pwritev2,splice,openat2,statx,renameat2,syncfs,pidfd_open,close_range";
    let Some(system) = System::lacking(calls, "EPERM") else { return };
    system.all();
}

#[test]
fn pipes_work_where_a_call_knows_no_flags() {
    for error in ["EOPNOTSUPP", "EINVAL"] {
        let Some(system) = System::lacking("preadv2,pwritev2,splice", error) else { return };
        system.pipes_carry_messages();
        system.streams_go_both_ways();
        system.circuits_join();
    }
}

#[test]
fn keys_are_made_and_imported_without_replacing_any() {
    let Some(system) = System::lacking(CALLS, "ENOSYS") else { return };
    let home = Home::new();
    let keygen = |args: &[&str]| run(system.command(&home, "ac-keygen", args), b"", DEADLINE);
    assert_code(&keygen(&[]), 0);
    assert_ne!(keygen(&[]).status.code(), Some(0));
    let file = system.bob.public_key_file();
    let import = ["--import", file.to_str().unwrap(), "--as", "bob"];
    assert_code(&keygen(&import), 0);
    let other = system.alice.public_key_file();
    let over = keygen(&["--import", other.to_str().unwrap(), "--as", "bob"]);
    assert_ne!(over.status.code(), Some(0));
}
