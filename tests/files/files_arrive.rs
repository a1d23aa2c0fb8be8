//! Files and folders arrive as they were, each under its own name, and a list of them is one
//! delivery.
//!
//! `AC_TEST_FILES`: how many small files are sent (1000).

use crate::testkit::{common, random::bytes, scene, transfer};

use std::fs;
use std::io::Write as _;

use common::{DEADLINE, Listener, Running, assert_code, number, run, send};
use scene::{Scene, events};
use transfer::tree::{describe, plant};

#[test]
fn files_and_folders_arrive_identical() {
    let scene = Scene::new();
    plant(&scene.at("tree"));
    scene.write("one", "one\n");
    scene.write("long", bytes(3_000_000));
    let mut listener = scene.listen(&["-1"]);
    let long = scene.at("long");
    let sent = scene.send(&listener, &["-f", long.to_str().unwrap()], &["tree", "one"]);
    assert_code(&sent, 0);
    assert!(sent.stderr.is_empty() && sent.stdout.is_empty(), "success says nothing: {sent:?}");
    assert!(listener.wait_exit(DEADLINE).success(), "a list is one run");
    for name in ["tree", "one", "long"] {
        assert_eq!(describe(&scene.arrived(name)), describe(&scene.at(name)), "{name}");
    }
    assert!(listener.stdout().is_empty(), "stdout is for messages");
    let said = listener.stderr();
    let line = said.lines().find(|line| line.contains("long")).unwrap();
    let landed = scene.arrived("long");
    assert_eq!(line, format!("ac-listen: alice: long (3.0 MB) -> {}", landed.display()));
}

#[test]
fn a_listener_that_counts_hears_so_many_lists() {
    let scene = Scene::new();
    for name in ["a", "b", "c"] {
        scene.write(name, name);
    }
    let mut listener = scene.listen(&["-n", "3"]);
    assert_code(&scene.send(&listener, &[], &["a", "b"]), 0);
    assert_code(&send(&scene.alice, &[&listener.destination("bob")], b"hi\n"), 0);
    assert_code(&scene.send(&listener, &[], &["b", "c"]), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"hi\n");
    assert_eq!(scene.landed().len(), 4);
}

#[test]
fn a_list_whose_last_folder_is_declined_is_heard_all_the_same() {
    let scene = Scene::new();
    scene.write("a", "a");
    scene.write("tree/large", bytes(2000));
    let mut listener = scene.listen(&["-1", "--max-total", "1k"]);
    assert_code(&scene.send(&listener, &[], &["tree"]), 8);
    assert_code(&scene.send(&listener, &[], &["a", "tree"]), 8);
    assert!(listener.wait_exit(DEADLINE).success(), "the first brought nothing, the second did");
    assert_eq!(scene.landed().len(), 1);
}

#[test]
fn stdin_is_not_read_when_files_are_named() {
    let scene = Scene::new();
    scene.write("a", "a");
    let listener = scene.listen(&[]);
    let file = scene.at("a");
    let command = scene
        .alice
        .command("ac-send", &["-f", file.to_str().unwrap(), &listener.destination("bob")]);
    let mut sender = Running::start(command);
    // It stays open, and has something to say.
    sender.stdin.as_mut().unwrap().write_all(b"not this").unwrap();
    assert!(sender.wait_exit(DEADLINE).success());
    assert_eq!(fs::read(scene.arrived("a")).unwrap(), b"a");
}

#[test]
fn both_ends_report_each_file() {
    let scene = Scene::new();
    plant(&scene.at("tree"));
    scene.write("a", "12345");
    let mut listener = scene.listen(&["--json", "-1"]);
    let sent = scene.send(&listener, &["--json"], &["a", "tree"]);
    assert_code(&sent, 0);
    assert!(listener.wait_exit(DEADLINE).success());
    let (there, here) = (events(&sent.stdout, "file"), events(&listener.stdout(), "file"));
    for (name, at) in [("a", 0), ("tree", 1)] {
        assert_eq!((&there[at]["name"], &here[at]["name"]), (&name.into(), &name.into()));
        assert_eq!((&there[at]["to"], &here[at]["from"]), (&"bob".into(), &"alice".into()));
        assert_eq!(there[at]["status"], "delivered");
        assert_eq!(here[at]["status"], "landed");
        assert_eq!(here[at]["path"], scene.arrived(name).to_str().unwrap());
        assert_eq!((&there[at]["id"], &there[at]["bytes"]), (&here[at]["id"], &here[at]["bytes"]));
        assert_eq!(there[at]["entries"], here[at]["entries"]);
    }
    assert_eq!((&here[0]["bytes"], &here[1]["entries"]), (&5.into(), &12.into()));
    assert_eq!((there.len(), here.len()), (2, 2));
    let result = &events(&sent.stdout, "result")[0];
    assert_eq!((&result["status"], &result["code"]), (&"delivered".into(), &0.into()));
    assert_eq!(events(&listener.stdout(), "delivered").len(), 0, "that is for messages");
}

#[test]
fn many_small_files_arrive_in_a_folder_or_as_a_list() {
    let scene = Scene::new();
    let count = number("AC_TEST_FILES", 1000);
    for n in 0..count {
        scene.write(&format!("many/{}/{n}", n / 100), n.to_string());
    }
    let listener = scene.listen(&[]);
    assert_code(&scene.send_within(DEADLINE * 4, &listener, &[], &["many"]), 0);
    assert_eq!(describe(&scene.arrived("many")), describe(&scene.at("many")));
    fs::remove_dir_all(scene.arrived("many")).unwrap();
    let names: Vec<_> = (0..count).map(|n| format!("many/{}/{n}", n / 100)).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_code(&scene.send_within(DEADLINE * 4, &listener, &[], &names), 0);
    assert_eq!(scene.landed().len() as u64, count);
    assert_eq!(fs::read_to_string(scene.arrived("7")).unwrap(), "7");
}

#[test]
fn what_makes_no_sense_with_files_is_refused_with_what_to_use_instead() {
    let scene = Scene::new();
    scene.write("a", "a");
    let to = "bob@127.0.0.1:9";
    let file = scene.at("a");
    let file = file.to_str().unwrap();
    for (args, hint) in
        [(&["-u"][..], "TCP"), (&["-o", "box"], "tar c"), (&["--plain"], "< FILE"), (&["-z"], "-z")]
    {
        let sent = send(&scene.alice, &[args, &["-f", file, to]].concat(), b"");
        assert_code(&sent, 2);
        let said = String::from_utf8(sent.stderr).unwrap();
        let (error, rest) = said.split_once("\nhint: ").unwrap();
        assert!(error.starts_with("ac-send: ") && rest.contains(hint), "{said}");
    }
    let nothing = send(&scene.alice, &[to, "--"], b"");
    assert_code(&nothing, 2);
    let inbox = scene.inbox();
    let inbox = inbox.to_str().unwrap();
    for args in [&["-u", "-d", inbox, "0"][..], &["--plain", "-d", inbox, "0"]] {
        assert_code(&run(scene.bob.command("ac-listen", args), b"", DEADLINE), 2);
    }
    let missing = scene.bob.command("ac-listen", &["-d", "/no/such", "127.0.0.1:0"]);
    let missing = run(missing, b"", DEADLINE);
    assert_code(&missing, 1);
    let said = String::from_utf8(missing.stderr).unwrap();
    assert!(said.contains("/no/such: no such file") && said.contains("hint: make it"), "{said}");
}

#[test]
fn a_sender_that_hears_of_a_file_that_nobody_takes_says_so() {
    let scene = Scene::new();
    scene.write("a", "a");
    let listener = Listener::spawn(&scene.bob, &["127.0.0.1:0"]);
    let sent = scene.send(&listener, &[], &["a"]);
    assert_code(&sent, 8);
    let said = String::from_utf8(sent.stderr).unwrap();
    assert!(said.starts_with("ac-send: bob: a: declined: the recipient takes no files\nhint:"));
    listener.wait_stderr("alice: a: declined: no files are taken");
}
