//! What programs read: every line of `--json` and `--status-fd` is an object as
//! `docs/events.schema.json` describes it, and the objects of a message give its bytes back.

use crate::testkit::{common, machines, relay_client, relay_people, relay_reader};

use std::fs;
use std::io::Write as _;
use std::process::Command;

use anonchat::proto::stream::handshake::HELLO_LEN;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::*;
use machines::Lan;
use relay_client::Relay;
use relay_reader::know;
use serde_json::{Value, json};

const SCHEMA: &str = include_str!("../../docs/events.schema.json");
/// The most content of one object, in bytes.
const PART: usize = 64 * 1024;

/// Why `value` is not as `schema` wants it; of JSON Schema 2020-12 what our schema uses, and an
/// error for a keyword that this does not know.
fn complaint(value: &Value, schema: &Value, root: &Value) -> Option<String> {
    let no = |why: String| Some(format!("{value} is not {why}"));
    for (keyword, wanted) in schema.as_object().unwrap() {
        let found = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "contentEncoding" => None,
            "$ref" => {
                let path = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                complaint(value, root.pointer(path).unwrap(), root)
            }
            "type" => {
                let right = match wanted.as_str().unwrap() {
                    "object" => value.is_object(),
                    "string" => value.is_string(),
                    "integer" => value.is_u64(),
                    "boolean" => value.is_boolean(),
                    "array" => value.is_array(),
                    other => panic!("unknown type {other}"),
                };
                if right { None } else { no(format!("of type {wanted}")) }
            }
            "const" if value == wanted => None,
            "const" => no(format!("{wanted}")),
            "enum" if wanted.as_array().unwrap().contains(value) => None,
            "enum" => no(format!("one of {wanted}")),
            "required" => {
                let missing = |key: &&Value| value.get(key.as_str().unwrap()).is_none();
                wanted
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(missing)
                    .and_then(|k| no(format!("with {k}")))
            }
            "properties" => wanted.as_object().unwrap().iter().find_map(|(key, wanted)| {
                value.get(key).and_then(|value| complaint(value, wanted, root))
            }),
            "items" => value
                .as_array()
                .and_then(|items| items.iter().find_map(|item| complaint(item, wanted, root))),
            "minimum" if value.as_u64() >= wanted.as_u64() => None,
            "maximum" if value.as_u64() <= wanted.as_u64() => None,
            "minLength" if value.as_str().map(str::len) >= Some(length(wanted)) => None,
            "maxLength" if value.as_str().map(str::len) <= Some(length(wanted)) => None,
            "minimum" | "maximum" | "minLength" | "maxLength" => no(format!("{keyword} {wanted}")),
            "oneOf" => {
                let all = wanted.as_array().unwrap().iter();
                let complaints: Vec<_> =
                    all.filter_map(|one| complaint(value, one, root)).collect();
                let fitting = wanted.as_array().unwrap().len() - complaints.len();
                if fitting == 1 { None } else { no(format!("exactly one: {complaints:#?}")) }
            }
            other => panic!("teach this test the keyword {other}"),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn length(number: &Value) -> usize {
    usize::try_from(number.as_u64().unwrap()).unwrap()
}

/// The objects of `lines`, each as the schema wants it, with no field that it does not describe.
fn objects(lines: &[u8]) -> Vec<Value> {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let text = std::str::from_utf8(lines).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "a line without an end: {text}");
    let object = |line: &str| {
        let object: Value = serde_json::from_str(line).unwrap();
        assert_eq!(complaint(&object, &schema, &schema), None);
        let event = object["event"].as_str().unwrap();
        let described = &schema["$defs"][event]["properties"];
        for key in object.as_object().unwrap().keys() {
            assert!(described.get(key).is_some(), "{event}: {key} is not in the schema");
        }
        object
    };
    text.lines().map(object).collect()
}

fn events<'o>(objects: &'o [Value], event: &str) -> Vec<&'o Value> {
    objects.iter().filter(|object| object["event"] == event).collect()
}

/// The bytes of one part, at most 64 KiB.
fn content(part: &Value) -> Vec<u8> {
    let bytes = match part["text"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => STANDARD.decode(part["base64"].as_str().unwrap()).unwrap(),
    };
    assert!(bytes.len() <= PART, "{} bytes in one object", bytes.len());
    bytes
}

/// The bytes of one message; its parts are numbered and the last one says so.
fn whole(parts: &[&Value]) -> Vec<u8> {
    for (seq, part) in parts.iter().enumerate() {
        assert_eq!(part["seq"], seq);
        assert_eq!(part["last"], seq + 1 == parts.len(), "{seq} of {}", parts.len());
        assert_eq!(part["id"], parts[0]["id"], "parts of another message in between");
    }
    parts.iter().flat_map(|part| content(part)).collect()
}

/// What `ac-listen --json` says of one message.
fn heard(message: &[u8]) -> Vec<Value> {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["--json", "-1", "127.0.0.1:0"]);
    assert_code(&send(&alice, &[&listener.destination("bob")], message), 0);
    assert!(listener.wait_exit(DEADLINE).success());
    objects(&listener.stdout())
}

/// A live message: what is written, and what must then be seen before the next is written.
fn heard_live(pieces: &[(&[u8], &str)]) -> Vec<Value> {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["--json", "-1", "127.0.0.1:0"]);
    let mut live = Running::start(alice.command("ac-send", &[&listener.destination("bob")]));
    for (piece, seen) in pieces {
        live.stdin.as_mut().unwrap().write_all(piece).unwrap();
        listener.wait_stdout(seen, |out| {
            out.windows(seen.len()).any(|window| window == seen.as_bytes())
        });
    }
    live.close_stdin();
    assert!(live.wait_exit(DEADLINE).success());
    assert!(listener.wait_exit(DEADLINE).success());
    objects(&listener.stdout())
}

#[test]
fn a_message_is_one_object_between_those_of_its_session() {
    let objects = heard(b"hi\n");
    let order: Vec<_> = objects.iter().map(|o| o["event"].as_str().unwrap()).collect();
    assert_eq!(order, ["listening", "key", "connected", "message", "delivered"]);
    let message = &objects[3];
    assert_eq!(message["text"], "hi\n");
    assert_eq!((&message["from"], &message["known"]), (&"alice".into(), &true.into()));
    assert_eq!((&message["seq"], &message["last"]), (&0.into(), &true.into()));
    assert_eq!((&objects[4]["id"], &objects[4]["bytes"]), (&message["id"], &3.into()));
    let (sent, arrived) =
        (message["sent_ms"].as_u64().unwrap(), message["arrived_ms"].as_u64().unwrap());
    assert!(sent.abs_diff(arrived) < 60_000, "{sent} {arrived}");
}

#[test]
fn an_empty_message_is_one_object_too() {
    let objects = heard(b"");
    let parts = events(&objects, "message");
    assert_eq!((parts.len(), whole(&parts)), (1, vec![]));
    assert_eq!(parts[0]["text"], "");
}

#[test]
fn a_message_over_64_kib_is_several_objects_and_a_shorter_one_is_not() {
    for (len, least) in [(1000, 1), (PART + 1, 2), (5 * PART + 17, 6)] {
        let text = "text\n".repeat(len / 5 + 1)[..len].to_owned();
        let objects = heard(text.as_bytes());
        let parts = events(&objects, "message");
        assert!(parts.len() >= least && (len < PART || parts.len() > 1), "{}", parts.len());
        assert_eq!(whole(&parts), text.as_bytes());
    }
}

#[test]
fn text_stays_text_wherever_it_is_divided() {
    for (start, character) in [("", "€"), ("a", "€"), ("", "👩"), ("abc", "👩"), ("a", "é")]
    {
        let text = start.to_owned() + &character.repeat(3 * PART / character.len());
        let objects = heard(text.as_bytes());
        let parts = events(&objects, "message");
        assert!(parts.iter().all(|part| part["text"].is_string()), "{start}{character}");
        assert_eq!(whole(&parts), text.as_bytes());
    }
}

#[test]
fn a_character_that_comes_in_pieces_stays_one() {
    let pieces: [(&[u8], &str); 3] =
        [(b"one ", "one "), (b"two \xf0\x9f", "two "), (b"\x91\xa9 three", "three")];
    let objects = heard_live(&pieces);
    let parts = events(&objects, "message");
    assert!(parts.len() >= 3, "it came live, as {} objects", parts.len());
    assert!(parts.iter().all(|part| part["text"].is_string()), "{parts:?}");
    assert_eq!(whole(&parts), "one two 👩 three".as_bytes());
}

#[test]
fn bytes_that_are_no_text_come_back_byte_for_byte() {
    let noise: Vec<u8> =
        (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for message in [&noise[..], b"\xff", b"abc\xe2\x82", b"\x80text", b"a\0b", &[0xe2; 70_000]] {
        let objects = heard(message);
        assert_eq!(whole(&events(&objects, "message")), message);
    }
}

#[test]
fn control_characters_and_line_ends_stay_within_their_line() {
    let text: String =
        (0..0x2100).filter_map(char::from_u32).chain(['\u{e0001}', '\u{feff}']).collect();
    let objects = heard(text.as_bytes());
    let parts = events(&objects, "message");
    assert_eq!((parts[0]["text"].as_str(), parts.len()), (Some(text.as_str()), 1));
}

#[test]
fn messages_of_several_senders_are_not_mixed() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["--json", "-n", "4", "127.0.0.1:0"]);
    let messages: Vec<_> = (0..4).map(|n| n.to_string().repeat(200_000)).collect();
    let mut senders: Vec<_> = messages
        .iter()
        .map(|message| {
            let command = alice.command("ac-send", &[&listener.destination("bob")]);
            let mut sender = Running::start(command);
            sender.feed(message.clone().into_bytes());
            sender
        })
        .collect();
    senders.iter_mut().for_each(|sender| assert!(sender.wait_exit(DEADLINE).success()));
    assert!(listener.wait_exit(DEADLINE).success());
    let objects = objects(&listener.stdout());
    let parts = events(&objects, "message");
    let mut heard: Vec<_> = parts
        .chunk_by(|a, b| a["id"] == b["id"])
        .map(|p| String::from_utf8(whole(p)).unwrap())
        .collect();
    heard.sort();
    assert_eq!(heard, messages);
}

/// `ac-listen` with descriptor 3 open on a file, which is returned.
fn listener_with_status(home: &Home, args: &[&str]) -> (Listener, std::path::PathBuf) {
    let status = home.path().join("status");
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 3>\"$STATUS\"", "sh"]).arg(program("ac-listen")).args(args);
    home.at_home(&mut command);
    command.env("STATUS", &status);
    (Listener::start(command), status)
}

#[test]
fn events_on_another_descriptor_leave_stdout_raw() {
    let (alice, bob) = alice_and_bob();
    let stranger = Home::with_identity();
    stranger.import(&bob, "bob");
    let args = ["--status-fd", "3", "-n", "2", "127.0.0.1:0"];
    let (mut listener, status) = listener_with_status(&bob, &args);
    let to = listener.destination("bob");
    assert_code(&send(&stranger, &["-w", "1", &to], b"unheard"), 5);
    assert_code(&send(&alice, &[&to], b"raw\n"), 0);
    let mut live = Running::start(alice.command("ac-send", &[&to]));
    live.stdin.as_mut().unwrap().write_all(b"half").unwrap();
    listener.wait_stdout("half a message", |out| out.ends_with(b"half"));
    live.kill();
    listener.wait_stderr("cut off");
    assert_code(&send(&alice, &[&to], b"more\n"), 0);
    assert!(listener.wait_exit(DEADLINE).success());

    assert_eq!(listener.stdout(), b"raw\nhalfmore\n");
    let objects = objects(&fs::read(status).unwrap());
    let count = |event| events(&objects, event).len();
    assert_eq!((count("listening"), count("key"), count("turned_away")), (1, 1, 1));
    assert_eq!((count("connected"), count("delivered"), count("cut")), (3, 2, 1));
    assert_eq!((count("message"), objects.len()), (0, 9));
    let delivered: Vec<_> =
        events(&objects, "delivered").iter().map(|o| o["bytes"].as_u64()).collect();
    assert_eq!(delivered, [Some(4), Some(5)]);
    let address = events(&objects, "listening")[0]["address"].as_str().unwrap().to_owned();
    assert_eq!(address, format!("127.0.0.1:{}", listener.port()));
}

#[test]
fn whoever_waits_is_reported_with_the_limit_that_says_so() {
    let (alice, bob) = alice_and_bob();
    let args =
        ["--status-fd", "3", "--max-per-contact", "1", "--max-per-address", "1", "127.0.0.1:0"];
    let (listener, status) = listener_with_status(&bob, &args);
    let live = || {
        let mut sender = Running::start(alice.command("ac-send", &[&listener.destination("bob")]));
        sender.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        sender
    };
    let (_first, _second) = (live(), live());
    listener.wait_stderr("alice: too many sessions at once");
    let connect = || std::net::TcpStream::connect(("127.0.0.1", listener.port())).unwrap();
    let mut strangers = [connect(), connect()];
    strangers.iter_mut().for_each(|stranger| stranger.write_all(&[7; HELLO_LEN]).unwrap());
    listener.wait_stderr("an address: too many connections at once");
    let objects = objects(&fs::read(status).unwrap());
    let limited: Vec<_> = events(&objects, "limited")
        .iter()
        .map(|o| (o["limit"].clone(), o.get("from").cloned(), o.get("address").cloned()))
        .collect();
    let alice = ("per_contact".into(), Some("alice".into()), None);
    let address = ("per_address".into(), None, Some("127.0.0.1".into()));
    assert!(limited.contains(&alice) && limited.contains(&address), "{limited:?}");
}

#[test]
fn a_message_that_is_cut_ends_with_an_object_that_says_so() {
    let (alice, bob) = alice_and_bob();
    let listener = Listener::spawn(&bob, &["--json", "127.0.0.1:0"]);
    let mut live = Running::start(alice.command("ac-send", &[&listener.destination("bob")]));
    live.stdin.as_mut().unwrap().write_all(b"half").unwrap();
    listener.wait_stdout("half a message", |out| out.windows(4).any(|w| w == b"half"));
    live.kill();
    listener.wait_stdout("the end", |out| out.windows(11).any(|w| w == b"\"cut\":true,"));
    let said = listener.stdout();
    let objects = objects(&said[..said.iter().rposition(|b| *b == b'\n').unwrap() + 1]);
    let parts = events(&objects, "message");
    assert_eq!(whole(&parts), b"half");
    assert!(parts.last().unwrap()["cut"] == true && parts[0].get("cut").is_none());
    assert_eq!(events(&objects, "cut")[0]["id"], parts[0]["id"]);
    assert!(events(&objects, "delivered").is_empty());
}

#[test]
fn a_listener_that_heard_nobody_reports_its_failure() {
    let bob = Home::with_identity();
    let ended =
        run(bob.command("ac-listen", &["--json", "-w", "50ms", "127.0.0.1:0"]), b"", DEADLINE);
    assert_code(&ended, 4);
    let objects = objects(&ended.stdout);
    let errors = events(&objects, "error");
    assert_eq!((errors.len(), &errors[0]["code"]), (1, &4.into()));
}

#[test]
fn a_sender_reports_what_came_of_it() {
    let (alice, bob) = alice_and_bob();
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let to = listener.destination("bob");
    let result = |args: &[&str], code: i32| {
        let sent = send(&alice, args, b"hi\n");
        assert_code(&sent, code);
        let mut objects = objects(&sent.stdout);
        assert_eq!(objects.len(), 1, "{objects:?}");
        let object = objects.remove(0);
        assert_eq!((&object["event"], &object["code"]), (&"result".into(), &code.into()));
        assert_eq!(object["to"], "bob");
        object
    };
    let delivered = result(&["--json", &to], 0);
    assert_eq!((&delivered["status"], &delivered["bytes"]), (&"delivered".into(), &3.into()));
    assert_eq!(delivered["address"], format!("127.0.0.1:{}", listener.port()));
    assert_eq!(result(&["--json", "-z", &to], 0)["status"], "there");
    drop(listener);
    let failed = result(&["--json", &to], 4);
    assert_eq!((&failed["status"], &failed["bytes"]), (&"failed".into(), &0.into()));
    assert!(failed["error"].as_str().unwrap().contains("connection refused"), "{failed}");
}

#[test]
fn what_a_relay_holds_is_told_as_queued() {
    let (alice, _) = alice_and_bob();
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    know(&alice, &relay, "home", relay.port);
    for (args, code) in [(&["--queue"][..], 0), (&[], 7)] {
        let args = [args, &["--via", "home", "-w", "1s", "--json", "bob"]].concat();
        let sent = send(&alice, &args, b"hi");
        assert_code(&sent, code);
        let objects = objects(&sent.stdout);
        let [result] = events(&objects, "result")[..] else { panic!("{objects:?}") };
        assert_eq!((&result["status"], &result["code"]), (&json!("queued"), &json!(code)));
        assert_eq!(result["hint"].is_string(), code == 7);
        assert!(result["error"].as_str().unwrap().contains("queued at relay home"));
    }
    let file = alice.path().join("note");
    fs::write(&file, "hi").unwrap();
    let args = ["--via", "home", "-w", "1s", "--json", "bob", "-f", file.to_str().unwrap()];
    let objects = objects(&send(&alice, &args, b"").stdout);
    let [file] = events(&objects, "file")[..] else { panic!("{objects:?}") };
    assert_eq!((&file["status"], &file["name"]), (&json!("queued"), &json!("note")));
    assert_eq!((&file["to"], &file["bytes"]), (&json!("bob"), &json!(0)));
}

#[test]
fn files_are_told_at_both_ends_with_what_came_of_them_and_how_far_they_are() {
    let (alice, bob) = alice_and_bob();
    let (long, inbox) = (alice.path().join("long"), bob.path().join("in"));
    fs::create_dir(&inbox).unwrap();
    fs::write(&long, vec![7; 64 << 20]).unwrap();
    fs::write(alice.path().join("\u{202e}a\nb"), "x").unwrap();
    fs::create_dir(alice.path().join("folder")).unwrap();
    fs::write(alice.path().join("large"), vec![7; 80 << 20]).unwrap();
    let inbox_name = inbox.to_str().unwrap();
    let args = ["--json", "-1", "-d", inbox_name, "--max-file", "64M", "127.0.0.1:0"];
    let mut listener = Listener::spawn(&bob, &args);
    let to = listener.destination("bob");
    let args = ["--json", &to, "--", "long", "folder", "large", "none", "\u{202e}a\nb"];
    let mut command = alice.command("ac-send", &args);
    command.current_dir(alice.path());
    let mut sender = Running::start(command);
    let begun = || fs::read_dir(&inbox).unwrap().next().map(drop);
    eventually("some of it", DEADLINE, begun);
    // Long enough for both to tell.
    sender.signal(rustix::process::Signal::STOP);
    let stopped = std::time::Instant::now();
    eventually("a second", DEADLINE, || (stopped.elapsed().as_millis() > 1100).then_some(()));
    sender.signal(rustix::process::Signal::CONT);
    assert_eq!(sender.wait_exit(DEADLINE).code(), Some(1));
    assert!(listener.wait_exit(DEADLINE).success());

    let (here, there) = (objects(&sender.stdout()), objects(&listener.stdout()));
    for progress in [&events(&here, "progress"), &events(&there, "progress")] {
        assert_eq!(
            (&progress[0]["name"], &progress[0]["size"]),
            (&"long".into(), &(64 << 20).into())
        );
    }
    let told = |objects: &[Value]| -> Vec<String> {
        let files = events(objects, "file");
        let told = files.iter().map(|f| format!("{} {}", f["name"].as_str().unwrap(), f["status"]));
        told.map(|line| line.replace('"', "")).collect()
    };
    let mut expected: Vec<String> =
        ["long", "folder", "\u{202e}a\nb"].iter().map(|name| format!("{name} landed")).collect();
    expected.insert(2, "large declined".into());
    assert_eq!(told(&there), expected);
    let mut mine = told(&here);
    mine.retain(|line| line != "none failed");
    assert_eq!(mine.len(), told(&here).len() - 1);
    assert_eq!(mine, expected.iter().map(|l| l.replace("landed", "delivered")).collect::<Vec<_>>());
}

#[test]
fn a_history_is_told_as_what_arrived_and_what_was_sent() {
    let (alice, bob) = alice_and_bob();
    let (ours, theirs) = (alice.path().join("history"), bob.path().join("history"));
    let (ours, theirs) = (ours.to_str().unwrap(), theirs.to_str().unwrap());
    let args = ["--json", "-n", "2", "--history", theirs, "127.0.0.1:0"];
    let mut listener = Listener::spawn(&bob, &args);
    let to = listener.destination("bob");
    let long: Vec<u8> = (0..40_000u32).flat_map(u32::to_le_bytes).collect();
    for message in [&b"hi\n"[..], &long] {
        assert_code(&send(&alice, &["--history", ours, &to], message), 0);
    }
    assert!(listener.wait_exit(DEADLINE).success());
    let replay = |home: &Home, path: &str| {
        let args = ["--replay", path, "--json"];
        let replayed = run(home.command("ac-listen", &args), b"", DEADLINE);
        assert_code(&replayed, 0);
        objects(&replayed.stdout)
    };

    // What arrived is told as it was told then.
    let live = objects(&listener.stdout());
    let (then, now) = (events(&live, "message"), replay(&bob, theirs));
    assert_eq!(then[0], &now[0]);
    assert_eq!(whole(&events(&now[1..], "message")), long);
    assert_eq!(events(&now, "message").len(), now.len());

    let sent = replay(&alice, ours);
    assert_eq!(events(&sent, "sent_message").len(), sent.len());
    assert_eq!((&sent[0]["to"], &sent[0]["status"]), (&"bob".into(), &"delivered".into()));
    assert_eq!((&sent[0]["id"], &sent[0]["text"]), (&now[0]["id"], &"hi\n".into()));
    let parts: Vec<_> = sent[1..].iter().collect();
    assert_eq!(whole(&parts), long);
    assert!(parts.iter().all(|part| part.get("status").is_some() == (part["last"] == true)));
}

#[test]
fn a_chat_is_told_in_both_directions() {
    let (alice, bob) = alice_and_bob();
    let mut listener = Listener::spawn(&bob, &["-i", "--json", "127.0.0.1:0"]);
    let to = listener.destination("bob");
    let mut chat = Running::start(alice.command("ac-send", &["-i", "--json", "-w", "1s", &to]));
    let text = |running: &Running, event: &'static str| {
        running.wait_stdout(event, |bytes| {
            String::from_utf8_lossy(bytes).contains(&format!("\"event\":\"{event}\""))
        });
    };
    chat.stdin.as_mut().unwrap().write_all("hi\nzwei: \u{1b}\n".as_bytes()).unwrap();
    text(&chat, "sent_message");
    listener.stdin.as_mut().unwrap().write_all(b"yes?\n").unwrap();
    text(&chat, "message");
    listener.kill();
    text(&chat, "disconnected");
    chat.stdin.as_mut().unwrap().write_all(b"gone\n").unwrap();
    assert_eq!(chat.wait_exit(DEADLINE).code(), Some(6));

    let told = objects(&chat.stdout());
    assert_eq!(events(&told, "connected")[0]["peer"], "bob");
    let sent = events(&told, "sent_message");
    let sent: Vec<_> = sent.iter().map(|o| (o["text"].as_str().unwrap(), &o["status"])).collect();
    assert_eq!(sent[0], ("hi\n", &"delivered".into()));
    assert_eq!(sent.last().unwrap(), &("gone\n", &"failed".into()));
    assert_eq!(events(&told, "message")[0]["text"], "yes?\n");
    assert_eq!(events(&told, "error")[0]["code"], 6);

    let told = objects(&listener.stdout());
    let heard: Vec<_> = events(&told, "message").iter().map(|o| o["text"].clone()).collect();
    assert_eq!(heard, ["hi\n", "zwei: \u{1b}\n"]);
}

#[test]
fn what_is_not_encrypted_is_never_a_message_and_says_what_it_is() {
    for transport in [&[][..], &["-u"]] {
        let home = Home::new();
        let args = [transport, &["--plain", "--json", "-1", "127.0.0.1:0"]].concat();
        let mut listener = Listener::spawn(&home, &args);
        let to = format!("127.0.0.1:{}", listener.port());
        let sent = send(&home, &[transport, &["--plain", "--json", &to]].concat(), b"hi\n");
        assert_code(&sent, 0);
        let result = &objects(&sent.stdout)[0];
        assert_eq!((&result["status"], &result["plain"]), (&"sent".into(), &true.into()));
        assert_eq!(result["to"], format!("PLAIN {to}"));
        assert!(listener.wait_exit(DEADLINE).success());
        let objects = objects(&listener.stdout());
        let count = |event| events(&objects, event).len();
        assert_eq!((count("message"), count("delivered"), count("key")), (0, 0, 0));
        assert_eq!(events(&objects, "listening")[0]["plain"], true);
        assert!(events(&objects, "connected").iter().all(|o| o["plain"] == true));
        let parts = events(&objects, "plain_message");
        assert_eq!(whole(&parts), b"hi\n");
        let received = events(&objects, "plain_received")[0];
        assert_eq!((&received["id"], &received["bytes"]), (&parts[0]["id"], &3.into()));
        assert_eq!(received["address"], parts[0]["address"]);
    }
}

#[test]
fn what_keygen_shows_is_described_too() {
    let (alice, bob) = alice_and_bob();
    let events_of = |args: &[&str]| {
        let shown = bob.keygen(args);
        assert_code(&shown, 0);
        objects(&shown.stdout)
    };
    let listed = events_of(&["-l", "--json"]);
    let names: Vec<_> = listed.iter().map(|o| o["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["identity", "contacts/alice"]);
    assert!(listed.iter().all(|o| o["event"] == "key"));
    assert!(listed.iter().all(|o| o["hints"]["address"].is_array()));
    let verified = &events_of(&["--verify", "alice", "--json"])[0];
    assert_eq!(verified["event"], "safety_number");
    assert!(verified["a_hints"].is_object() && verified["b_hints"].is_object());
    let file = alice.public_key_file();
    let imported = events_of(&["--import", file.to_str().unwrap(), "--as", "ally", "--json"]);
    assert_eq!((&imported[0]["event"], &imported[0]["name"]), (&"imported".into(), &"ally".into()));
}

#[test]
fn each_of_several_destinations_has_a_result() {
    let (alice, bob) = alice_and_bob();
    let carol = Home::with_identity();
    befriend(&alice, "alice", &carol, "carol");
    let listeners = [&bob, &carol].map(|home| Listener::spawn(home, &["127.0.0.1:0"]));
    let to = [listeners[0].destination("bob"), listeners[1].destination("carol")];
    let sent = send(&alice, &["--json", "nobody", &to[0], "carol", &to[1]], b"hi\n");
    assert_code(&sent, 3);
    let results: Vec<_> = objects(&sent.stdout);
    let of = |name: &str| -> Vec<_> {
        let named = results.iter().filter(|result| result["to"] == name);
        named.map(|result| (result["status"].as_str().unwrap(), result["code"].as_u64())).collect()
    };
    assert_eq!(results.len(), 4);
    assert_eq!(of("nobody"), [("failed", Some(3))]);
    assert_eq!(of("bob"), [("delivered", Some(0))]);
    assert_eq!(of("carol"), [("failed", Some(4)), ("delivered", Some(0))]);
}

#[test]
fn what_discovery_reports_is_described_too() {
    // Without a network of its own this would ask that of the machine.
    let Some(lan) = Lan::new(2) else { return };
    let (alice, bob) = alice_and_bob();
    let announce = lan.hosts[1].command(&bob, "ac-discover", &["--announce", "1234", "--json"]);
    let announcer = Running::start(announce);
    announcer.wait_stdout("two objects", |out| out.split(|b| *b == b'\n').count() > 2);
    let told = objects(&announcer.stdout());
    assert_eq!((&told[0]["event"], &told[1]["event"]), (&"announcing".into(), &"key".into()));
    let seek = |args: &[&str]| {
        let args = [&["--json"], args].concat();
        let output = run(lan.hosts[0].command(&alice, "ac-discover", &args), b"", DEADLINE);
        objects(&output.stdout)
    };
    let found = seek(&[]);
    let presence = events(&found, "presence");
    assert_eq!(presence.len(), 1, "{found:?}");
    assert_eq!((&presence[0]["name"], &presence[0]["status"]), (&"bob".into(), &"online".into()));
    assert_eq!(presence[0]["address"], "10.0.0.2:1234");
    drop(announcer);
    let nobody = seek(&["-w", "300ms", "bob"]);
    assert_eq!((&nobody[0]["event"], &nobody[0]["code"]), (&"error".into(), &4.into()));
}

#[test]
fn the_schema_describes_every_event_once() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let defined = schema["$defs"].as_object().unwrap();
    let mut listed: Vec<_> =
        schema["oneOf"].as_array().unwrap().iter().map(|r| r["$ref"].as_str().unwrap()).collect();
    listed.sort_unstable();
    assert_eq!(listed, defined.keys().map(|k| format!("#/$defs/{k}")).collect::<Vec<_>>());
    for (event, definition) in defined {
        assert_eq!(definition["properties"]["event"]["const"], *event);
    }
    let event = serde_json::json!({ "v": 1, "event": "key", "fingerprint": "too short" });
    assert!(complaint(&event, &schema, &schema).is_some(), "this test checks nothing");
}

#[test]
fn a_relay_reports_its_key_where_it_hears_and_its_counts() {
    let home = Home::new();
    let args = ["--json", "--metrics", "127.0.0.1:0", "127.0.0.1:0"];
    let mut relay = Running::start(home.command("ac-relay", &args));
    relay.wait_stderr("metrics on ");
    relay.signal(rustix::process::Signal::TERM);
    assert_eq!(relay.wait_exit(DEADLINE).code(), None);
    let objects = objects(&relay.stdout());
    let order: Vec<_> = objects.iter().map(|o| o["event"].as_str().unwrap()).collect();
    assert_eq!(order, ["relay_key", "listening", "metrics", "relay_counts"]);
    assert!(objects[0]["file"].as_str().unwrap().starts_with("format = \"anonchat-relay\""));
    assert_eq!(objects[3]["clients"], 0);
}

#[test]
fn what_becomes_of_a_relay_and_what_comes_by_it_has_its_events() {
    let (alice, bob) = alice_and_bob();
    let mut relay = relay_people::relay();
    let mut listener = relay_people::listen(&bob, &relay, &["--json", "-w", "20"]);
    let via = relay_people::name_of(&relay, &alice);
    assert_code(&send(&alice, &["--via", &via, "bob"], b"by relay\n"), 0);
    relay.kill();
    listener.wait_stdout("the loss", |bytes| String::from_utf8_lossy(bytes).contains("\"lost\""));
    listener.signal(rustix::process::Signal::TERM);
    listener.wait_exit(DEADLINE);
    let said = objects(&listener.stdout());
    let relays = events(&said, "relay");
    let statuses: Vec<_> = relays.iter().map(|event| event["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["listening", "lost"]);
    assert!(relays.iter().all(|event| event["relay"] == "home"));
    let messages = events(&said, "message");
    assert_eq!(whole(&messages), b"by relay\n");
    assert_eq!(messages[0]["transport"], "relay");
    assert_eq!(events(&said, "delivered")[0]["bytes"], 9);
}
