//! Two and more people chat, from scripts: lines go both ways, commands are obeyed, whoever is lost
//! is called again, and nothing is lost or said twice.

use crate::testkit::{common, proxy};

use std::io::Write as _;

use common::*;
use proxy::Proxy;
use rustix::process::Signal;

/// A program with a pipe to type into.
fn start(home: &Home, program: &str, args: &[&str]) -> Running {
    Running::start(home.command(program, args))
}

fn has(text: &str) -> impl Fn(&[u8]) -> bool {
    move |bytes| String::from_utf8_lossy(bytes).contains(text)
}

/// Bob listens and chats.
fn bob_chats(bob: &Home, more: &[&str]) -> Listener {
    Listener::spawn(bob, &[&["-i"], more, &["127.0.0.1:0"]].concat())
}

#[test]
fn lines_go_both_ways_and_the_end_of_input_ends_a_chat_once_all_is_acknowledged() {
    let (alice, bob) = alice_and_bob();
    let mut listener = bob_chats(&bob, &[]);
    // Typed before anybody is there: it waits for the first.
    type_line(&mut listener, "good morning");
    let mut chat = start(&alice, "ac-send", &["-i", &listener.destination("bob")]);
    chat.wait_stdout("what waited", has("good morning\n"));
    type_line(&mut chat, "hi bob");
    listener.wait_stdout("a line", has("hi bob\n"));
    type_line(&mut listener, "hi alice, こんにちは");
    chat.wait_stdout("the answer", has("hi alice, こんにちは\n"));
    let last = "no line end";
    chat.stdin.as_mut().unwrap().write_all(last.as_bytes()).unwrap();
    chat.close_stdin();
    assert!(chat.wait_exit(DEADLINE).success(), "{}", chat.stderr());
    // It was acknowledged, so it is there.
    assert_eq!(String::from_utf8(listener.stdout()).unwrap(), "hi bob\nno line end\n");
    assert_eq!(String::from_utf8(chat.stdout()).unwrap(), "good morning\nhi alice, こんにちは\n");
    listener.wait_stderr("alice left");
    // A listener goes on without its input.
    listener.close_stdin();
    assert_code(&send(&alice, &["-i", &listener.destination("bob")], b"again\n"), 0);
    listener.wait_stdout("another chat", has("again\n"));
}

#[test]
fn an_empty_input_still_asks_whether_they_are_there() {
    let (alice, bob) = alice_and_bob();
    let listener = bob_chats(&bob, &[]);
    assert_code(&send(&alice, &["-i", &listener.destination("bob")], b""), 0);
    drop(listener);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_code(&send(&alice, &["-i", &format!("bob@{nobody}")], b""), 4);
}

#[test]
fn who_cannot_be_reached_at_first_ends_a_chat_of_pipes_with_the_reason() {
    let (alice, bob) = alice_and_bob();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreached = send(&alice, &["-i", &format!("bob@{nobody}")], b"hi\n");
    assert_code(&unreached, 4);
    let said = String::from_utf8_lossy(&unreached.stderr);
    assert!(said.starts_with("ac-send: bob: 127.0.0.1:"), "{said}");
    // Bob does not know carol.
    let carol = Home::with_identity();
    carol.import(&bob, "bob");
    let listener = bob_chats(&bob, &[]);
    let args = ["-i", "-w", "1s", &listener.destination("bob")];
    assert_code(&send(&carol, &args, b"hi\n"), 5);
    assert_eq!(listener.stdout(), b"");
}

#[test]
fn what_makes_no_sense_in_a_chat_is_refused_with_what_to_do() {
    let (alice, _bob) = alice_and_bob();
    let wrong = [
        ("ac-send", &["-i", "-u", "bob@127.0.0.1:9"][..]),
        ("ac-send", &["-i", "-z", "bob@127.0.0.1:9"]),
        ("ac-send", &["-i", "-o", "box", "bob"]),
        ("ac-send", &["-i", "--plain", "127.0.0.1:9"]),
        ("ac-send", &["-i", "-f", "file", "bob@127.0.0.1:9"]),
        ("ac-send", &["-i", "-b", "bob@127.0.0.1:9"]),
        ("ac-listen", &["-i", "-b", "127.0.0.1:0"]),
        ("ac-listen", &["-i", "-e", "cat", "127.0.0.1:0"]),
        ("ac-send", &["--bell", "bob@127.0.0.1:9"]),
        ("ac-listen", &["-i", "-u", "127.0.0.1:0"]),
        ("ac-listen", &["-i", "--plain", "127.0.0.1:0"]),
        ("ac-listen", &["-i", "--open", "box"]),
        ("ac-listen", &["--bell", "127.0.0.1:0"]),
    ];
    for (program, args) in wrong {
        let output = run(alice.command(program, args), b"", DEADLINE);
        assert_code(&output, 2);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("\nhint: "), "{args:?}: {said}");
    }
}

#[test]
fn commands_are_obeyed_and_never_said() {
    let (alice, bob) = alice_and_bob();
    let listener = bob_chats(&bob, &[]);
    let typed = "/nonsense\n//slash\n/msg nobody hi\n/msg bob for you\n/list\n/help\n/exit\nlate\n";
    let chat = send(&alice, &["-i", &listener.destination("bob")], typed.as_bytes());
    assert_code(&chat, 0);
    let said = String::from_utf8_lossy(&chat.stderr);
    for expected in ["no such command: /nonsense", "nobody: no contact", "/connect DESTINATION"] {
        assert!(said.contains(expected), "no {expected:?}: {said}");
    }
    assert_eq!(String::from_utf8(listener.stdout()).unwrap(), "/slash\nfor you\n");
}

#[test]
fn a_private_line_calls_a_contact_that_is_not_here_and_reaches_nobody_else() {
    let (alice, bob, carol) = (Home::with_identity(), Home::with_identity(), Home::with_identity());
    befriend(&alice, "alice", &bob, "bob");
    let carols = bob_chats_of(&carol);
    let address = format!("127.0.0.1:{}", carols.port());
    alice.import(&carol, "carol");
    carol.import(&alice, "alice");
    // Carol's key file says where she is.
    let file = alice.path().join("contacts/carol.pub");
    let key = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{key}address = [\"{address}\"]\n")).unwrap();

    let bobs = bob_chats(&bob, &[]);
    let mut chat = start(&alice, "ac-send", &["-i", &bobs.destination("bob")]);
    type_line(&mut chat, "/msg carol only you");
    carols.wait_stdout("a private line", has("only you\n"));
    type_line(&mut chat, "both of you");
    carols.wait_stdout("a line to all", has("both of you\n"));
    bobs.wait_stdout("a line to all", has("both of you\n"));
    type_line(&mut chat, "/msg bob you alone");
    bobs.wait_stdout("a private line", has("you alone\n"));
    type_line(&mut chat, "/exit");
    assert!(chat.wait_exit(DEADLINE).success(), "{}", chat.stderr());
    assert_eq!(String::from_utf8(bobs.stdout()).unwrap(), "both of you\nyou alone\n");
    assert_eq!(String::from_utf8(carols.stdout()).unwrap(), "only you\nboth of you\n");
}

fn bob_chats_of(home: &Home) -> Listener {
    Listener::spawn(home, &["-i", "127.0.0.1:0"])
}

#[test]
fn a_listener_says_a_line_to_all_who_chat_and_to_nobody_who_only_sends() {
    let (alice, bob, carol) = (Home::with_identity(), Home::with_identity(), Home::with_identity());
    befriend(&alice, "alice", &bob, "bob");
    befriend(&carol, "carol", &bob, "bob");
    let mut listener = bob_chats(&bob, &[]);
    // A sender that goes on for the whole time, and takes no messages.
    let mut sender = start(&carol, "ac-send", &[&listener.destination("bob")]);
    type_line(&mut sender, "from a pipe");
    listener.wait_stdout("a message", has("from a pipe\n"));
    let chats: Vec<Running> = [&alice, &carol]
        .iter()
        .map(|home| start(home, "ac-send", &["-i", &listener.destination("bob")]))
        .collect();
    listener.wait_stderr("alice is here");
    listener.wait_stderr("carol is here");
    type_line(&mut listener, "hello everybody");
    for chat in &chats {
        chat.wait_stdout("a line to all", has("hello everybody\n"));
    }
    type_line(&mut listener, "/msg alice hello you");
    chats[0].wait_stdout("a line to one", has("hello you\n"));
    sender.close_stdin();
    assert!(sender.wait_exit(DEADLINE).success(), "{}", sender.stderr());
    assert!(!has("hello you")(&chats[1].stdout()));
}

#[test]
fn who_does_not_chat_hears_the_lines_as_messages() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-n", "2", "127.0.0.1:0"]);
    let chat = send(&alice, &["-i", &listener.destination("bob")], b"one\ntwo\n");
    assert_code(&chat, 0);
    assert!(String::from_utf8_lossy(&chat.stderr).contains("bob hears you, and does not chat"));
    // The greeting was no message.
    assert!(listener.wait_exit(DEADLINE).success());
    assert_eq!(listener.stdout(), b"one\ntwo\n");
}

/// Both type while connections break; what a frozen network held back is gone with it.
#[test]
fn nothing_is_lost_or_said_twice_when_connections_break() {
    let rounds = number("AC_TEST_REDIALS", 3);
    let (alice, bob) = alice_and_bob();
    let mut listener = bob_chats(&bob, &[]);
    let path = Proxy::to(listener.port());
    let mut chat = start(&alice, "ac-send", &["-i", &path.destination("bob")]);
    let (mut said, mut answered) = (String::new(), String::new());
    let mut say = |chat: &mut Running, listener: &mut Running, n: usize, what: &str| {
        let (line, answer) = (format!("{n} {what}"), format!("{n} answer {what}"));
        type_line(chat, &line);
        type_line(listener, &answer);
        said.push_str(&format!("{line}\n"));
        answered.push_str(&format!("{answer}\n"));
        (said.clone(), answered.clone())
    };
    for n in 0..rounds {
        let (all, back) = say(&mut chat, &mut listener, n, "before");
        listener.wait_stdout("lines", |bytes| bytes.ends_with(all.as_bytes()));
        chat.wait_stdout("answers", |bytes| bytes.ends_with(back.as_bytes()));
        path.freeze();
        say(&mut chat, &mut listener, n, "into the void");
        if n % 2 == 0 {
            // They were sent, and are lost on the way.
            path.wait_held(2);
        }
        path.interrupt();
        let (all, back) = say(&mut chat, &mut listener, n, "meanwhile");
        listener.wait_stdout("what was typed meanwhile", |b| b.ends_with(all.as_bytes()));
        chat.wait_stdout("what was answered meanwhile", |b| b.ends_with(back.as_bytes()));
    }
    chat.close_stdin();
    assert!(chat.wait_exit(DEADLINE).success(), "{}", chat.stderr());
    assert_eq!(String::from_utf8(listener.stdout()).unwrap(), said);
    assert_eq!(String::from_utf8(chat.stdout()).unwrap(), answered);
}

#[test]
fn who_does_not_come_back_ends_a_chat_of_pipes_with_what_is_undelivered() {
    let (alice, bob) = alice_and_bob();
    let mut listener = bob_chats(&bob, &[]);
    let args = ["-i", "-w", "1s", &listener.destination("bob")];
    let mut chat = start(&alice, "ac-send", &args);
    chat.wait_stderr("bob is here");
    listener.kill();
    chat.wait_stderr("bob: the connection was lost; calling again");
    type_line(&mut chat, "is anybody there?");
    assert_eq!(chat.wait_exit(DEADLINE).code(), Some(6));
    assert!(chat.stderr().contains("ac-send: bob: cut off, and not back within 1 s\n"));
}

#[test]
fn somebody_else_who_cannot_be_reached_ends_nothing_and_is_told() {
    let (alice, bob) = alice_and_bob();
    let carol = Home::with_identity();
    alice.import(&carol, "carol");
    let listener = bob_chats(&bob, &[]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut chat = start(&alice, "ac-send", &["-i", &listener.destination("bob")]);
    chat.wait_stderr("bob is here");
    type_line(&mut chat, "/msg carol hi");
    chat.wait_stderr("carol: no address is known (/connect carol@HOST:PORT)");
    type_line(&mut chat, &format!("/connect carol@{nobody}"));
    chat.wait_stderr("connection refused");
    type_line(&mut chat, "to bob");
    chat.close_stdin();
    assert!(chat.wait_exit(DEADLINE).success(), "{}", chat.stderr());
    assert_eq!(listener.stdout(), b"to bob\n");
    // What was meant for her is not delivered.
    let typed = format!("/connect carol@{nobody}\n/msg carol hi\n");
    let chat = send(&alice, &["-i", &listener.destination("bob")], typed.as_bytes());
    assert_code(&chat, 6);
}

#[test]
fn a_file_goes_in_a_session_of_its_own_and_what_becomes_of_it_is_told() {
    let (alice, bob) = alice_and_bob();
    let inbox = bob.path().join("inbox");
    std::fs::create_dir(&inbox).unwrap();
    let inbox_name = inbox.to_str().unwrap();
    let mut listener = bob_chats(&bob, &["-d", inbox_name]);
    let file = alice.path().join("my photo.jpg");
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n >> 3) as u8).collect();
    std::fs::write(&file, &content).unwrap();
    let mut chat = start(&alice, "ac-send", &["-i", &listener.destination("bob")]);
    chat.wait_stderr("bob is here");
    type_line(&mut chat, &format!("/send bob {}", file.display()));
    type_line(&mut chat, "look at this");
    listener.wait_stdout("a line", has("look at this\n"));
    chat.wait_stderr("✓ bob has my photo.jpg, 3.0 MB");
    let landed: Vec<_> = std::fs::read_dir(&inbox).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(landed.len(), 1, "{landed:?}");
    assert_eq!(std::fs::read(&landed[0]).unwrap(), content);
    // Whoever called without a directory takes none.
    type_line(&mut listener, &format!("/bsend {}", file.display()));
    listener.wait_stderr("declined: the recipient takes no files");
    // The end of the input waits for what is on its way.
    type_line(&mut chat, &format!("/bsend {}", file.display()));
    chat.close_stdin();
    assert!(chat.wait_exit(DEADLINE).success(), "{}", chat.stderr());
    assert_eq!(std::fs::read_dir(&inbox).unwrap().count(), 2);
}

#[test]
fn a_file_that_is_not_wanted_or_not_there_is_a_scripts_exit_status() {
    let (alice, bob) = alice_and_bob();
    let listener = bob_chats(&bob, &[]);
    let file = alice.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let to = listener.destination("bob");
    let sent = |typed: &str| send(&alice, &["-i", &to], typed.as_bytes());
    let declined = sent(&format!("/send bob {}\nhi\n", file.display()));
    assert_code(&declined, 8);
    let said = String::from_utf8_lossy(&declined.stderr);
    assert!(said.contains("ac-send: bob: file: declined: the recipient takes no files"), "{said}");
    let missing = sent("/send bob /no/such/file\nhi\n");
    assert_code(&missing, 1);
    assert_eq!(listener.stdout(), b"hi\nhi\n");
}

#[test]
fn several_are_called_and_one_who_is_not_there_is_the_exit_status_of_a_script() {
    let (alice, bob, carol) = (Home::with_identity(), Home::with_identity(), Home::with_identity());
    befriend(&alice, "alice", &bob, "bob");
    befriend(&alice, "alice", &carol, "carol");
    let (bobs, carols) = (bob_chats(&bob, &[]), bob_chats(&carol, &[]));
    let (to_bob, to_carol) = (bobs.destination("bob"), carols.destination("carol"));
    assert_code(&send(&alice, &["-i", &to_bob, &to_carol], b"hi both\n"), 0);
    assert_eq!((bobs.stdout(), carols.stdout()), (b"hi both\n".to_vec(), b"hi both\n".to_vec()));
    drop(carols);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sent = send(&alice, &["-i", &to_bob, &format!("carol@{nobody}")], b"hi bob\n");
    assert_code(&sent, 4);
    assert_eq!(bobs.stdout(), b"hi both\nhi bob\n");
    assert_code(&send(&alice, &["-i", &to_bob, &to_bob], b""), 2);
    assert_code(&send(&alice, &["-ia", &to_bob, &to_carol], b""), 2);
}

#[test]
fn leaving_without_having_delivered_is_no_success() {
    let (alice, bob) = alice_and_bob();
    let mut listener = bob_chats(&bob, &[]);
    let mut chat = start(&alice, "ac-send", &["-i", "-w", "1s", &listener.destination("bob")]);
    chat.wait_stderr("bob is here");
    listener.kill();
    chat.wait_stderr("bob: the connection was lost; calling again");
    type_line(&mut chat, "one\ntwo\n/exit");
    assert_eq!(chat.wait_exit(DEADLINE).code(), Some(6));
    assert!(chat.stderr().ends_with("ac-send: bob: cut off, and not back within 1 s\n"));
    // Whoever listens need not wait for those who do not come back.
    let mut listener = bob_chats(&bob, &[]);
    let mut chat = start(&alice, "ac-send", &["-i", "-w", "1s", &listener.destination("bob")]);
    listener.wait_stderr("alice is here");
    chat.wait_stderr("bob is here");
    chat.signal(Signal::STOP);
    type_line(&mut listener, "one\n/msg alice two\n/exit");
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(6));
    assert!(listener.stderr().ends_with("ac-listen: alice: 2 lines were not delivered\n"));
}

#[test]
fn a_signal_ends_a_chat_and_the_other_side_knows() {
    let (alice, bob) = alice_and_bob();
    let mut listener = bob_chats(&bob, &[]);
    let mut chat = start(&alice, "ac-send", &["-i", &listener.destination("bob")]);
    listener.wait_stderr("alice is here");
    chat.wait_stderr("bob is here");
    chat.signal(Signal::TERM);
    chat.wait_exit(DEADLINE);
    listener.wait_stderr("alice left");
    listener.signal(Signal::INT);
    listener.wait_exit(DEADLINE);
}

#[test]
fn long_lines_and_many_lines_arrive_whole_and_in_order() {
    let (alice, bob) = alice_and_bob();
    let listener = bob_chats(&bob, &[]);
    let mut text = String::new();
    for n in 0..3000 {
        text.push_str(&format!("line {n} {}\n", "x".repeat(n % 50)));
    }
    let long = "é".repeat(100_000);
    let input = format!("{text}{long}\n");
    let chat = send(&alice, &["-i", &listener.destination("bob")], input.as_bytes());
    assert_code(&chat, 0);
    assert!(String::from_utf8(listener.stdout()).unwrap() == input);
}

/// Lines of all kinds, the longest among them, each as it is in the file.
fn any_lines() -> Vec<u8> {
    let longest: Vec<u8> = (0..1_048_576u32).map(|n| b'a' + (n % 26) as u8).collect();
    let noise: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).filter(|b| *b != b'\n').collect();
    let lines: [&[u8]; 9] = [
        b"dos line end\r",
        b"",
        b"   ",
        b"nul \0 within",
        b"latin-1: \xe9t\xe9",
        b"\xff\xfe\x80",
        &longest,
        &noise,
        b"the end",
    ];
    lines.iter().flat_map(|line| [*line, b"\n"].concat()).collect()
}

#[test]
fn a_piped_line_arrives_as_it_is_and_as_one_message() {
    let (alice, bob) = alice_and_bob();
    let input = any_lines();
    let listener = bob_chats(&bob, &[]);
    assert_code(&send(&alice, &["-i", &listener.destination("bob")], &input), 0);
    assert!(listener.stdout() == input);
    // Whoever does not chat gets them, too, and a NUL after each message.
    let listener = Listener::spawn(&bob, &["-0", "127.0.0.1:0"]);
    assert_code(&send(&alice, &["-i", &listener.destination("bob")], &input), 0);
    let lines = input.split_inclusive(|byte| *byte == b'\n');
    let expected: Vec<u8> = lines.flat_map(|line| [line, b"\0"].concat()).collect();
    assert!(listener.stdout() == expected);
    // And a command.
    let listener = Listener::spawn(&bob, &["-e", "cat", "127.0.0.1:0"]);
    assert_code(&send(&alice, &["-i", &listener.destination("bob")], &input), 0);
    assert!(listener.stdout() == input);
}

#[test]
fn a_line_that_is_said_by_a_listener_arrives_as_it_is() {
    let (alice, bob) = alice_and_bob();
    let input = any_lines();
    let mut listener = bob_chats(&bob, &[]);
    let chat = start(&alice, "ac-send", &["-i", &listener.destination("bob")]);
    chat.wait_stderr("bob is here");
    listener.feed(input.clone());
    chat.wait_stdout("all of it", |bytes| bytes.ends_with(b"the end\n"));
    assert!(chat.stdout() == input);
}

#[test]
fn reports_of_a_long_line_come_in_parts() {
    let (alice, bob) = alice_and_bob();
    let listener = bob_chats(&bob, &["--json"]);
    let long = format!("{}\n", "é".repeat(100_000));
    let chat = send(&alice, &["-i", "--json", &listener.destination("bob")], long.as_bytes());
    assert_code(&chat, 0);
    for (said, event) in [(chat.stdout, "sent_message"), (listener.stdout(), "message")] {
        let parts = json_of(&said);
        let parts: Vec<_> = parts.iter().filter(|e| e["event"] == event).collect();
        let text: String = parts.iter().map(|part| part["text"].as_str().unwrap()).collect();
        assert!(text == long);
        assert!(parts.len() > 1 && parts.iter().enumerate().all(|(n, part)| part["seq"] == n));
        assert!(parts.iter().rev().enumerate().all(|(n, part)| part["last"] == (n == 0)));
    }
}

#[test]
fn a_line_that_is_too_long_is_told_and_nothing_else_is_lost() {
    let (alice, bob) = alice_and_bob();
    let listener = bob_chats(&bob, &[]);
    for end in [&b"\n"[..], b"\nafter\n", b""] {
        let input = [b"before\n", &vec![b'x'; 1_048_577][..], end].concat();
        let chat = send(&alice, &["-i", &listener.destination("bob")], &input);
        assert_code(&chat, 1);
        let said = String::from_utf8_lossy(&chat.stderr);
        assert!(said.contains("a line is longer than 1048576 bytes: not said"), "{said}");
    }
    assert_eq!(String::from_utf8(listener.stdout()).unwrap(), "before\nbefore\nafter\nbefore\n");
}

#[test]
fn a_command_that_is_not_utf8_is_not_said_to_everybody() {
    let (alice, bob) = alice_and_bob();
    let listener = bob_chats(&bob, &[]);
    let input = b"/msg carol \xe9\n//\xe9\n";
    let chat = send(&alice, &["-i", &listener.destination("bob")], input);
    assert!(String::from_utf8_lossy(&chat.stderr).contains("not obeyed, and not said"));
    assert_eq!(listener.stdout(), b"/\xe9\n");
}

fn json_of(said: &[u8]) -> Vec<serde_json::Value> {
    let lines = std::str::from_utf8(said).unwrap().lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn who_is_killed_while_idle_is_lost_and_gets_what_was_typed_when_they_are_back() {
    let (alice, bob) = alice_and_bob();
    let mut listener = bob_chats(&bob, &["--json"]);
    let port = listener.port();
    let mut chat = start(&alice, "ac-send", &["-i", "--json", &listener.destination("bob")]);
    chat.wait_stderr("bob is here");
    type_line(&mut chat, "hi");
    chat.wait_stdout("an acknowledgement", has("\"status\":\"delivered\""));
    // Nothing is under way now.
    listener.kill();
    chat.wait_stderr("bob: the connection was lost; calling again");
    type_line(&mut chat, "typed meanwhile");
    let mut listener = Listener::spawn(&bob, &["-i", "--json", &format!("127.0.0.1:{port}")]);
    listener.wait_stdout("what waited", has("typed meanwhile\\n"));
    listener.wait_stderr("alice is here");
    let lost = json_of(&chat.stdout());
    assert!(lost.iter().any(|e| e["event"] == "disconnected" && e["lost"] == true), "{lost:?}");

    chat.kill();
    listener.wait_stderr("alice: the connection was lost; what you type waits for them");
    type_line(&mut listener, "are you back?");
    let chat = start(&alice, "ac-send", &["-i", &listener.destination("bob")]);
    chat.wait_stdout("what waited", has("are you back?\n"));
    let gone = json_of(&listener.stdout());
    assert!(gone.iter().any(|e| e["event"] == "disconnected" && e["lost"] == true), "{gone:?}");
}

#[test]
fn what_waits_for_one_who_does_not_come_back_is_no_success() {
    let (alice, bob) = alice_and_bob();
    let mut listener = bob_chats(&bob, &[]);
    let mut chat = start(&alice, "ac-send", &["-i", &listener.destination("bob")]);
    listener.wait_stderr("alice is here");
    chat.wait_stderr("bob is here");
    chat.kill();
    listener.wait_stderr("alice: the connection was lost");
    type_line(&mut listener, "are you there?\n/exit");
    assert_eq!(listener.wait_exit(DEADLINE).code(), Some(6));
    assert!(listener.stderr().ends_with("ac-listen: alice: a line was not delivered\n"));
}

#[test]
fn who_leaves_in_order_is_shown_to_have_left() {
    let (alice, bob) = alice_and_bob();
    let mut listener = bob_chats(&bob, &["--json"]);
    let to = listener.destination("bob");
    let ways: [fn(&mut Running); 5] = [
        |chat| type_line(chat, "/exit"),
        Running::close_stdin,
        |chat| chat.signal(Signal::HUP),
        |chat| chat.signal(Signal::INT),
        |chat| chat.signal(Signal::TERM),
    ];
    for leave in ways {
        let mut chat = start(&alice, "ac-send", &["-i", &to]);
        chat.wait_stderr("bob is here");
        leave(&mut chat);
        chat.wait_exit(DEADLINE);
    }
    // Whose last one is not lost on the way, so it is the fifth.
    let left = |bytes: &[u8]| {
        let ends = json_of(&bytes[..bytes.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1)]);
        ends.iter().filter(|e| e["event"] == "disconnected" && e["lost"] == false).count() == 5
    };
    listener.wait_stdout("five who left", left);
    assert!(!listener.stderr().contains("lost"), "{}", listener.stderr());

    let mut chat = start(&alice, "ac-send", &["-i", &to]);
    chat.wait_stderr("bob is here");
    type_line(&mut listener, "/exit");
    chat.wait_stderr("bob left");
    assert!(!chat.stderr().contains("lost"), "{}", chat.stderr());
    chat.kill();
    // Who only hears leaves in order, too.
    let mut listener = Listener::spawn(&bob, &["-n", "1", "127.0.0.1:0"]);
    let mut chat = start(&alice, "ac-send", &["-i", &listener.destination("bob")]);
    type_line(&mut chat, "one");
    assert!(listener.wait_exit(DEADLINE).success());
    chat.wait_stderr("bob left");
}

#[test]
fn a_stranger_whose_connection_is_cut_is_not_said_to_have_left() {
    let (alice, bob) = (Home::with_identity(), Home::with_identity());
    alice.import(&bob, "bob");
    let listener = bob_chats(&bob, &["--accept-unknown"]);
    let mut chat = start(&alice, "ac-send", &["-i", &listener.destination("bob")]);
    chat.wait_stderr("bob is here");
    chat.kill();
    listener.wait_stderr(": the connection was lost");
    assert!(!listener.stderr().contains(" left"), "{}", listener.stderr());
}

#[test]
fn a_history_keeps_both_directions() {
    let (alice, bob) = alice_and_bob();
    let mut listener = bob_chats(&bob, &[]);
    let history = alice.path().join("history");
    let history = history.to_str().unwrap();
    let args = ["-i", "--json", "-w", "2s", "--history", history, &listener.destination("bob")];
    let mut chat = start(&alice, "ac-send", &args);
    type_line(&mut chat, "question");
    listener.wait_stdout("a line", has("question\n"));
    type_line(&mut listener, "answer");
    chat.wait_stdout("the answer", has("\"answer\\n\""));
    chat.wait_stdout("an acknowledgement", has("\"status\":\"delivered\""));
    listener.kill();
    chat.wait_stderr("calling");
    type_line(&mut chat, "too late\n/exit");
    assert_eq!(chat.wait_exit(DEADLINE).code(), Some(6));
    let replay = run(alice.command("ac-listen", &["--replay", history, "--json"]), b"", DEADLINE);
    assert_code(&replay, 0);
    let kept: Vec<serde_json::Value> = String::from_utf8(replay.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kept: Vec<_> = kept
        .iter()
        .map(|e| (e["event"].as_str().unwrap(), e["text"].as_str().unwrap(), e["status"].as_str()))
        .collect();
    let sent = "sent_message";
    assert!(kept.contains(&(sent, "question\n", Some("delivered"))), "{kept:?}");
    assert!(kept.contains(&("message", "answer\n", None)), "{kept:?}");
    assert!(kept.contains(&(sent, "too late\n", Some("failed"))), "{kept:?}");
    assert_eq!(kept.len(), 3, "{kept:?}");
}
