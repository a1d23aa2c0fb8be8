//! Two people chat in the two panes of a tmux, as people do: lines both ways, nothing kept, one of
//! them killed and back.

use crate::testkit::{common, proxy};

use std::process::{Command, Stdio};
use std::time::Instant;

use common::*;
use proxy::Proxy;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A tmux server of its own, which ends with it.
struct Tmux(TempDir);

impl Tmux {
    fn new() -> Self {
        let tmux = Self(TempDir::new().unwrap());
        tmux.command(&["new-session", "-d", "-x", "200", "-y", "30", "sh"]);
        tmux.command(&["split-window", "-h", "-t", "0.0", "sh"]);
        for pane in [0, 1] {
            tmux.type_in(pane, "PS1='$ '");
            tmux.wait(pane, "$ ");
        }
        tmux
    }

    fn command(&self, args: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.args(["-S", self.0.path().join("socket").to_str().unwrap(), "-f", "/dev/null"]);
        tmux.args(args).env_remove("TMUX").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        let output = tmux.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Types a line, and the enter key.
    fn type_in(&self, pane: usize, line: &str) {
        let target = format!("0.{pane}");
        self.command(&["send-keys", "-t", &target, "-l", line]);
        self.command(&["send-keys", "-t", &target, "Enter"]);
    }

    fn screen(&self, pane: usize) -> String {
        self.command(&["capture-pane", "-p", "-t", &format!("0.{pane}")])
    }

    /// Waits until a row of the pane has `text`; the row.
    fn wait(&self, pane: usize, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let screen = self.screen(pane);
            if let Some(row) = screen.lines().find(|row| row.contains(text)) {
                return row.to_owned();
            }
            assert!(Instant::now() < end, "no {text:?} in pane {pane}:\n{screen}");
        }
    }

    /// The program that runs in the shell of a pane.
    fn program(&self, pane: usize) -> Option<Pid> {
        let target = format!("0.{pane}");
        let shell = self.command(&["display-message", "-p", "-t", &target, "#{pane_pid}"]);
        let children = format!("/proc/{0}/task/{0}/children", shell.trim());
        let children = std::fs::read_to_string(&children).unwrap();
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    /// Waits until the shell of a pane has the terminal again.
    fn wait_end(&self, pane: usize) {
        eventually("the end of a program", DEADLINE, || self.program(pane).is_none().then_some(()));
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.command(&["kill-server"]);
    }
}

/// Every file under the homes, with its content.
fn files(homes: &[&Home]) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut folders: Vec<_> = homes.iter().map(|home| home.path().to_owned()).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push((path.clone(), std::fs::read(path).unwrap())),
            }
        }
    }
    files.sort();
    files
}

#[test]
fn two_people_chat_and_one_of_them_is_killed_and_comes_back() {
    if !need("tmux") {
        return;
    }
    let (alice, bob) = alice_and_bob();
    let before = files(&[&alice, &bob]);
    let tmux = Tmux::new();
    let run = |home: &Home, program: &str, args: &str| {
        let (home, program) = (home.path().display(), program_path(program));
        format!("HOME={home} AC_HOME={home} {program} {args}")
    };
    let (alices, bobs) = (0, 1);
    tmux.type_in(bobs, &run(&bob, "ac-listen", "-i 127.0.0.1:0"));
    let ready = tmux.wait(bobs, "listening on ");
    let path = Proxy::to(port_in_ready_line(&ready).unwrap());
    tmux.type_in(alices, &run(&alice, "ac-send", &path.destination("bob")));
    tmux.wait(alices, "-- bob is here");
    tmux.wait(bobs, "-- alice is here");

    // Each line is marked, at the edge of its row, before something stands between it and its mark.
    let is_marked = |pane, text| {
        let marked = || tmux.wait(pane, text).trim_end().ends_with('✓').then_some(());
        eventually("a mark", DEADLINE, marked);
    };
    tmux.type_in(alices, "hello Bob");
    tmux.wait(bobs, " alice: hello Bob");
    is_marked(alices, "you → bob: hello Bob");
    tmux.type_in(bobs, "こんにちは, Alice 👋");
    tmux.wait(alices, " bob: こんにちは, Alice 👋");
    is_marked(bobs, "you → alice: こんにちは");
    // Half a line stays where it is.
    tmux.command(&["send-keys", "-t", "0.0", "-l", "half a"]);
    tmux.wait(alices, "> half a");
    tmux.type_in(bobs, "an interruption");
    tmux.wait(alices, " bob: an interruption");
    tmux.type_in(alices, " line");
    tmux.wait(bobs, " alice: half a line");
    // Once it is acknowledged nobody will hear it again.
    is_marked(alices, "you → bob: half a line");

    kill_process(tmux.program(bobs).unwrap(), Signal::KILL).unwrap();
    tmux.wait_end(bobs);
    tmux.wait(alices, "; calling ");
    tmux.type_in(alices, "are you there?");
    tmux.type_in(alices, "hello?");
    tmux.wait(alices, "you → bob (away): hello?");
    // Nobody can put the terminal right after that but the user, as after any editor.
    tmux.command(&["send-keys", "-t", "0.1", "C-j", "stty sane; echo right", "C-j"]);
    tmux.wait(bobs, "right");
    tmux.type_in(bobs, "clear");
    eventually("an empty screen", DEADLINE, || {
        (!tmux.screen(bobs).contains("listening on ")).then_some(())
    });
    tmux.type_in(bobs, &run(&bob, "ac-listen", "-i 127.0.0.1:0"));
    let ready = tmux.wait(bobs, "listening on ");
    path.lead_to(port_in_ready_line(&ready).unwrap());
    tmux.wait(bobs, " alice: hello?");
    tmux.wait(alices, "✓ bob has it: hello?");
    let heard = tmux.screen(bobs);
    let theirs = heard.lines().filter(|row| !row.contains("you → "));
    let heard: Vec<&str> =
        theirs.filter_map(|row| row.split_once(" alice: ")).map(|(_, text)| text).collect();
    assert_eq!(heard, ["are you there?", "hello?"]);

    tmux.type_in(alices, "/exit");
    tmux.wait_end(alices);
    tmux.wait(bobs, "-- alice left");
    tmux.command(&["send-keys", "-t", "0.1", "C-c"]);
    tmux.wait_end(bobs);
    tmux.type_in(bobs, "echo code $?");
    tmux.wait(bobs, "code 130");
    // The shells have their terminals as they were.
    tmux.type_in(alices, "stty -a");
    tmux.wait(alices, " icanon ");
    assert_eq!(files(&[&alice, &bob]), before, "something was kept");
}

fn program_path(name: &str) -> String {
    program(name).display().to_string()
}
