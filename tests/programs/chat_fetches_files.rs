//! Whoever called into a chat, from a port that nobody can call, gets files as the others do: they
//! are told, and fetch them in a session of its own.

use crate::testkit::common;

use std::path::{Path, PathBuf};

use common::*;

/// What is more than one record, and asks for RESUME.
const LARGE: usize = 3 << 20;

struct Chat {
    alice: Home,
    bob: Home,
    listener: Listener,
    caller: Running,
}

/// Bob listens and chats; alice, who has no address, calls him.
fn chat(of_bob: &[&str], of_alice: &[&str]) -> Chat {
    let (alice, bob) = alice_and_bob();
    let listener = Listener::spawn(&bob, &[&["-i"], of_bob, &["127.0.0.1:0"]].concat());
    let to = listener.destination("bob");
    let caller = Running::start(alice.command("ac-send", &[&["-i"], of_alice, &[&to]].concat()));
    listener.wait_stderr("alice is here");
    Chat { alice, bob, listener, caller }
}

fn directory(home: &Home) -> PathBuf {
    let path = home.path().join("in");
    std::fs::create_dir(&path).unwrap();
    path
}

/// The one file in `directory` whose name ends so, once it is whole.
fn landed(directory: &Path, name: &str) -> PathBuf {
    let is_it = |entry: &PathBuf| entry.to_string_lossy().ends_with(name);
    eventually(name, DEADLINE, || {
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).find(is_it)
    })
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_file_for_somebody_who_only_called_is_fetched_by_them() {
    let home = Home::new();
    let inbox = directory(&home);
    let mut chat = chat(&[], &["-d", text(&inbox)]);
    let large = home.path().join("large");
    let content: Vec<u8> = (0..LARGE).map(|n| (n / 7) as u8).collect();
    std::fs::write(&large, &content).unwrap();
    let folder = home.path().join("tree");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("leaf"), b"green").unwrap();
    type_line(&mut chat.listener, &format!("/send alice {}", large.display()));
    type_line(&mut chat.listener, "and a folder for all");
    type_line(&mut chat.listener, &format!("/bsend {}", folder.display()));
    chat.listener.wait_stderr("✓ alice has large");
    chat.listener.wait_stderr("✓ alice has tree");
    assert!(std::fs::read(landed(&inbox, "bob_large")).unwrap() == content);
    let leaf = landed(&inbox, "bob_tree").join("leaf");
    assert_eq!(std::fs::read(leaf).unwrap(), b"green");
    chat.caller.wait_stdout("the line", |out| out == b"and a folder for all\n");
    // The chat goes on, and ends as ever.
    type_line(&mut chat.caller, "thanks");
    chat.listener.wait_stdout("the answer", |out| out == b"thanks\n");
    chat.caller.close_stdin();
    assert!(chat.caller.wait_exit(DEADLINE).success(), "{}", chat.caller.stderr());
}

#[test]
fn both_sides_send_at_once() {
    let (mine, theirs) = (Home::new(), Home::new());
    let (of_alice, of_bob) = (directory(&mine), directory(&theirs));
    let mut chat = chat(&["-d", text(&of_bob)], &["-d", text(&of_alice)]);
    for n in 0..5 {
        let file = mine.path().join(format!("file{n}"));
        std::fs::write(&file, vec![n; 100_000]).unwrap();
        type_line(&mut chat.listener, &format!("/send alice {}", file.display()));
        type_line(&mut chat.caller, &format!("/send bob {}", file.display()));
    }
    for n in 0..5 {
        for (directory, from) in [(&of_alice, "bob"), (&of_bob, "alice")] {
            let path = landed(directory, &format!("{from}_file{n}"));
            assert!(std::fs::read(path).unwrap() == vec![n; 100_000]);
        }
    }
    drop((chat.alice, chat.bob));
}

#[test]
fn who_takes_no_files_declines_what_waits_too() {
    let home = Home::new();
    let file = home.path().join("file");
    std::fs::write(&file, b"content").unwrap();
    let mut chat = chat(&[], &[]);
    type_line(&mut chat.listener, &format!("/send alice {}", file.display()));
    let line = chat.listener.wait_stderr("takes no files");
    assert!(line.contains("alice"), "{line}");
    chat.caller.wait_stderr("bob wants to send a file");
    type_line(&mut chat.listener, "never mind");
    chat.caller.wait_stdout("a line", |out| out == b"never mind\n");
}

#[test]
fn what_waits_for_somebody_who_goes_is_told_to_be_lost() {
    let home = Home::new();
    let inbox = directory(&home);
    let mut chat = chat(&[], &["-d", text(&inbox)]);
    // They cannot call again.
    let file = home.path().join("file");
    std::fs::write(&file, b"content").unwrap();
    chat.caller.signal(rustix::process::Signal::STOP);
    type_line(&mut chat.listener, &format!("/send alice {}", file.display()));
    chat.listener.wait_stderr("sending");
    chat.caller.kill();
    let line = chat.listener.wait_stderr("not here any more");
    assert!(line.contains("alice") && line.contains("file"), "{line}");
}

#[test]
fn files_come_only_to_a_chat() {
    let home = Home::with_identity();
    let output = send(&home, &["-d", ".", "bob@127.0.0.1:9"], b"");
    assert_code(&output, 2);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("files come only to a chat") && said.contains("hint: "), "{said}");
}
