//! Whoever sends or takes a long file at a terminal sees how far it is, how fast, and how long it will
//! take, and nothing is left of that afterwards; whoever does not sit at one sees nothing of it.

use crate::testkit::{common, scene, screen};

use std::fs::File;
use std::time::{Duration, Instant};

use common::{DEADLINE, Running, eventually, port_in_ready_line};
use rustix::process::Signal;
use scene::{Scene, bytes_below};
use screen::Screen;

/// What only a bar shows.
const BAR: &str = "/s, ";
/// A transfer that takes so long has one.
const LONG: Duration = Duration::from_millis(500);

/// Sends a file, and lets it take a while.
fn send_slowly(scene: &Scene, port: u16, how: &str, stderr: Option<File>) -> Running {
    scene.write("long-file", vec![1; 32 << 20]);
    let to = format!("bob@127.0.0.1:{port}");
    let mut command = scene.alice.command("ac-send", &[how, &to, "--", "long-file"]);
    command.current_dir(scene.alice.path());
    if let Some(stderr) = stderr {
        command.stderr(stderr);
    }
    let mut sender = Running::start(command);
    let begun = || (bytes_below(&scene.inbox()) > 0).then_some(());
    eventually("some of it", DEADLINE, begun);
    sender.signal(Signal::STOP);
    let stopped = Instant::now();
    eventually("a while", DEADLINE, || (stopped.elapsed() > LONG).then_some(()));
    sender.signal(Signal::CONT);
    assert!(sender.wait_exit(DEADLINE).success(), "{}", sender.stderr());
    sender
}

/// A listener whose stderr is a terminal, and stdout too if that is given.
fn listen_at(scene: &Scene, stderr: File, stdout: Option<File>) -> Running {
    let inbox = scene.inbox();
    let args = ["-d", inbox.to_str().unwrap(), "--max-file", "0", "127.0.0.1:0"];
    let mut command = scene.bob.command("ac-listen", &args);
    command.stderr(stderr);
    if let Some(stdout) = stdout {
        command.stdout(stdout);
    }
    Running::start(command)
}

fn port_on(screen: &Screen) -> u16 {
    screen.wait("listening on 127.0.0.1:");
    screen.wait("fingerprint");
    screen.text().lines().find_map(port_in_ready_line).unwrap()
}

#[test]
fn both_ends_show_how_far_a_long_file_is_and_clear_it_away() {
    let (scene, screens) = (Scene::new(), (Screen::new(), Screen::new()));
    let (Some((here, sender_end)), Some((there, listener_end))) = screens else { return };
    let _listener = listen_at(&scene, listener_end, None);
    send_slowly(&scene, port_on(&there), "-v", Some(sender_end));
    there.wait("long-file (33.6 MB) -> ");
    here.wait("long-file: 33.6 MB delivered");
    for screen in [&here, &there] {
        let text = screen.text();
        let bar = text.find(BAR).unwrap_or_else(|| panic!("no bar: {text:?}"));
        assert!(text[..bar].contains("long-file [") && text[bar..].contains(" left"), "{text:?}");
        // The last one goes with its session.
        eventually("a cleared bar", DEADLINE, || {
            let text = screen.text();
            let after = &text[text.rfind(BAR)?..];
            after.contains("\r\u{1b}[2K").then_some(())
        });
    }
}

#[test]
fn nothing_of_it_is_shown_where_messages_are_or_nobody_looks() {
    let (scene, screen) = (Scene::new(), Screen::new());
    let Some((there, listener_end)) = screen else { return };
    let stdout = listener_end.try_clone().unwrap();
    let _listener = listen_at(&scene, listener_end, Some(stdout));
    let sender = send_slowly(&scene, port_on(&there), "-v", None);
    there.wait("long-file (33.6 MB) -> ");
    assert!(!there.text().contains(BAR), "{:?}", there.text());
    assert!(!sender.stderr().contains(BAR), "{}", sender.stderr());

    let quiet = Screen::new();
    let Some((here, sender_end)) = quiet else { return };
    let listener = scene.listen(&["--max-file", "0"]);
    send_slowly(&scene, listener.port(), "-q", Some(sender_end));
    assert!(!here.text().contains(BAR), "{:?}", here.text());
}
