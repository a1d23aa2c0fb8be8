//! `config.toml`: every key does what it says, the command line wins, and a file that is not in
//! order is refused with its line and what was probably meant.

use crate::testkit::{common, relay_client, relay_reader};

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::Duration;

use anonchat::cli::config::{Config, LimitDefaults};
use anonchat::cli::units::MaybeRate;
use anonchat::proto::stream::handshake::HELLO_LEN;
use anonchat::sched::limits::Rate;
use common::*;
use proptest::prelude::*;
use relay_client::Relay;

fn write(home: &Home, text: &str) -> PathBuf {
    let path = home.path().join("config.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    path
}

/// What ac-listen says of this configuration, and exits with.
fn refused(home: &Home, args: &[&str]) -> (Option<i32>, String) {
    let output = run(home.command("ac-listen", args), b"", DEADLINE);
    assert!(output.stdout.is_empty());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A sender whose message is under way.
fn live(alice: &Home, listener: &Listener) -> Running {
    let mut sender = Running::start(alice.command("ac-send", &[&listener.destination("bob")]));
    sender.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    sender
}

#[test]
fn an_inbox_takes_files_and_limits_them_unless_the_command_line_says_otherwise() {
    let (alice, bob) = alice_and_bob();
    write(&bob, "inbox = \"~/inbox\"\n[limits]\nmax-file = \"1k\"\n");
    fs::write(alice.path().join("file"), [1; 2000]).unwrap();
    let (code, said) = refused(&bob, &["127.0.0.1:0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("/inbox: no such file or directory"), "{said}");
    for name in ["inbox", "elsewhere"] {
        fs::create_dir(bob.path().join(name)).unwrap();
    }
    let sent = |args: &[&str]| {
        let listener = Listener::spawn(&bob, &[args, &["127.0.0.1:0"]].concat());
        let file = alice.path().join("file");
        send(&alice, &[&listener.destination("bob"), "-f", file.to_str().unwrap()], b"")
    };
    let count = |name: &str| fs::read_dir(bob.path().join(name)).unwrap().count();
    assert_code(&sent(&[]), 8);
    assert_code(&sent(&["--max-file", "2k"]), 0);
    assert_eq!(count("inbox"), 1);
    let elsewhere = bob.path().join("elsewhere");
    assert_code(&sent(&["--max-file", "0", "-d", elsewhere.to_str().unwrap()]), 0);
    assert_eq!((count("inbox"), count("elsewhere")), (1, 1));
    // No file can come, so that there need not be a place for one.
    drop(Listener::spawn(&bob, &["-u", "127.0.0.1:0"]));
    assert_eq!(refused(&alice, &["--max-file", "1k", "127.0.0.1:0"]).0, Some(2));
}

#[test]
fn all_keys_are_read() {
    let text = "\
# What I like.
port = 1234
relay = [\"home\", \"/srv/relay.pub@[::1]:7\"]
inbox = \"~/inbox\"
lan = true
[limits]
max-clients = 50
max-per-contact = 5
max-per-address = 0
rate = \"20/s\"
silence = \"1m\"
max-file = \"1G\"
max-total = 0
reserve = \"2G\"
";
    let limits = LimitDefaults {
        max_clients: Some(50),
        max_per_contact: Some(5),
        max_per_address: Some(0),
        rate: Some(MaybeRate(Some(Rate::a_second(20)))),
        silence: Some(Duration::from_secs(60)),
        max_file: Some(1 << 30),
        max_total: Some(0),
        reserve: Some(2 << 30),
    };
    let all = Config {
        port: Some(1234),
        relay: vec!["home".into(), "/srv/relay.pub@[::1]:7".into()],
        inbox: Some("~/inbox".into()),
        lan: true,
        limits,
    };
    assert_eq!(Config::parse(text), Ok(all.clone()));
    assert_eq!(Config::parse(&text.replace('\n', "\r\n")), Ok(all.clone()), "DOS line ends");
    assert_eq!(Config::parse(&format!("\u{feff}{text}")), Ok(all), "a byte order mark");
    for nothing in ["", "\n", "# nothing", "[limits]\n", "limits = {}"] {
        assert_eq!(Config::parse(nothing), Ok(Config::default()), "{nothing:?}");
    }
    let one = Config::parse("relay = \"home@10.0.0.5:7000\"").unwrap();
    assert_eq!(one.relay, ["home@10.0.0.5:7000"]);
    let unquoted = Config::parse("[limits]\nsilence = 90\nrate = 0\n").unwrap().limits;
    assert_eq!(unquoted.silence, Some(Duration::from_secs(90)));
    assert_eq!(unquoted.rate, Some(MaybeRate(None)));
}

#[test]
fn what_is_not_in_order_is_named_with_its_line_and_what_was_meant() {
    let cases: &[(&str, usize, &str, &str)] = &[
        ("prot = 1", 1, "unknown key 'prot'", "perhaps port?"),
        ("\r\n\r\nPort = 1", 3, "unknown key 'Port'", "perhaps port?"),
        (
            "\n[limits]\nmax_clients = 1",
            3,
            "unknown key 'limits.max_clients'",
            "perhaps max-clients?",
        ),
        ("[limits]\nmax-client = 1", 2, "unknown key 'limits.max-client'", "perhaps max-clients?"),
        (
            "max-clients = 1",
            1,
            "unknown key 'max-clients'",
            "perhaps max-clients in the table [limits]?",
        ),
        ("[limits]\nport = 1", 2, "unknown key 'limits.port'", "perhaps port, before any table?"),
        ("[limit]\nrate = 1", 1, "unknown key 'limit'", "perhaps limits?"),
        (
            "colour = 1",
            1,
            "unknown key 'colour'",
            "the keys here are port, relay, inbox, lan, limits",
        ),
        ("relays = \"home\"", 1, "unknown key 'relays'", "perhaps relay?"),
        ("relay = 1", 1, "relay: is neither a string nor an array of strings", ""),
        ("relay = [\"a\",\n\"b\", 1]", 2, "relay: is neither a string nor an array of strings", ""),
        ("relay = \"relays/home.pub\"", 1, "relay: must be a petname, or a path that begins", ""),
        ("relay = \"\"", 1, "relay: ", ""),
        ("relay = \"-x\"", 1, "relay: ", ""),
        ("relay = \"home@here\"", 1, "relay: ", ""),
        (
            "relay = ['1', '2', '3', '4', '5', '6', '7', '8', '9']",
            1,
            "relay: has more than 8 entries",
            "",
        ),
        (
            "[limits]\nwhatever = 1",
            2,
            "unknown key 'limits.whatever'",
            "the keys here are max-clients, max-per-contact, max-per-address, rate, silence, \
             max-file, max-total, reserve",
        ),
        ("b-second = 1\nport = 5", 1, "unknown key 'b-second'", ""),
        ("z = 1\na = 1", 1, "unknown key 'z'", ""),
        ("\"\\u001b[31m\" = 1", 1, "unknown key '?[31m'", ""),
        ("port = \"1234\"", 1, "port: is not a whole number", ""),
        ("port = 0", 1, "port: must be from 1 to 65535", ""),
        ("port = 65536", 1, "port: must be from 1 to 65535", ""),
        ("port = -1", 1, "port: must be from 1 to 65535", ""),
        ("port = 1.5", 1, "port: is not a whole number", ""),
        ("port = 99999999999999999999", 1, "port: must be from 1 to 65535", ""),
        ("limits = 5", 1, "limits: is not a table", ""),
        ("[[limits]]", 1, "limits: is not a table", ""),
        ("[limits]\nmax-clients = 0", 2, "limits.max-clients: must be from 1 to 4294967295", ""),
        (
            "[limits]\n\nmax-per-contact = true",
            3,
            "limits.max-per-contact: is not a whole number",
            "",
        ),
        ("[limits]\nrate = 20", 2, "limits.rate: a rate is a number and", ""),
        ("[limits]\nrate = true", 2, "limits.rate: is not a string", ""),
        ("[limits]\nsilence = \"0\"", 2, "limits.silence: must be more than 0", ""),
        ("inbox = \"here\"", 1, "inbox: must begin with / or ~/", ""),
        ("[limits]\nmax-file = \"1x\"", 2, "limits.max-file: \"x\" is no unit: use k, M, G", ""),
        ("[limits]\nsilence = \"1x\"", 2, "limits.silence: \"x\" is no unit of time", ""),
        ("port = 1\nport = 2", 2, "is not TOML: duplicate key", ""),
        ("port = 1\n= 5", 2, "is not TOML: ", ""),
        ("port", 1, "is not TOML: ", ""),
    ];
    for (text, line, what, hint) in cases {
        let wrong = Config::parse(text).unwrap_err();
        assert_eq!(wrong.line, *line, "{text:?}: {wrong:?}");
        assert!(wrong.what.starts_with(what), "{text:?}: {wrong:?}");
        let found = wrong.hint.unwrap_or_default();
        assert!(hint.is_empty() || found == *hint, "{text:?}: {found}");
    }
}

#[test]
fn a_mistake_is_wrong_usage_and_shown_with_file_and_line() {
    let bob = Home::with_identity();
    let path = write(&bob, "port = 1234\n[limits]\nmax-client = 5\n");
    let (code, said) = refused(&bob, &["0"]);
    let path = path.display();
    assert_eq!(code, Some(2));
    assert_eq!(
        said,
        format!(
            "ac-listen: {path}:3: unknown key 'limits.max-client'\nhint: perhaps max-clients?\n"
        )
    );
    let (code, said) = refused(&bob, &["--plain", "0"]);
    assert!(code == Some(2) && said.contains("unknown key"), "{said}");
}

#[test]
fn a_listener_without_an_operand_listens_on_the_port_and_one_with_an_operand_does_not() {
    let (alice, bob) = alice_and_bob();
    let port = free_port();
    write(&bob, &format!("port = {port}\n"));
    let listener = Listener::spawn(&bob, &["-1"]);
    assert_eq!(listener.port(), port);
    assert_code(&send(&alice, &[&format!("bob@127.0.0.1:{port}")], b"x"), 0);
    drop(listener);
    let other = Listener::spawn(&bob, &["127.0.0.1:0"]);
    assert!(other.stderr().contains("listening on 127.0.0.1:"), "{}", other.stderr());
    fs::remove_file(bob.path().join("config.toml")).unwrap();
    let (code, said) = refused(&bob, &[]);
    assert!(code == Some(2) && said.contains("no port is given"), "{said}");
}

#[test]
fn the_limits_hold_and_options_win_over_them() {
    let (alice, bob) = alice_and_bob();
    for (text, what) in [
        ("max-per-contact = 1", "alice: too many sessions at once"),
        ("max-clients = 1", "too many sessions at once"),
    ] {
        write(&bob, &format!("[limits]\n{text}\n"));
        let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
        let _live = [live(&alice, &listener), live(&alice, &listener)];
        listener.wait_stderr(what);
    }
    write(&bob, "[limits]\nmax-per-address = 1\n");
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let connect = || std::net::TcpStream::connect(("127.0.0.1", listener.port())).unwrap();
    let mut strangers = [connect(), connect()];
    strangers.iter_mut().for_each(|stranger| stranger.write_all(&[7; HELLO_LEN]).unwrap());
    listener.wait_stderr("too many connections at once");

    write(&bob, "[limits]\nrate = \"1/m\"\n");
    let listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let connect = || std::net::TcpStream::connect(("127.0.0.1", listener.port())).unwrap();
    let mut strangers = [connect(), connect()];
    strangers.iter_mut().for_each(|stranger| stranger.write_all(&[7; HELLO_LEN]).unwrap());
    listener.wait_stderr("too many connections in a short time");

    // One a minute, as the file still says, would be too slow for this.
    let args = ["--rate", "0", "-n", "5", "127.0.0.1:0"];
    let mut listener = Listener::spawn(&bob, &args);
    for _ in 0..5 {
        assert_code(&send(&alice, &[&listener.destination("bob")], b"x"), 0);
    }
    assert!(listener.wait_exit(DEADLINE).success());
}

#[test]
fn the_silence_is_that_of_a_session_and_the_listener_goes_on() {
    let (alice, bob) = alice_and_bob();
    write(&bob, "[limits]\nsilence = \"1s\"\n");
    let mut listener = Listener::spawn(&bob, &["127.0.0.1:0"]);
    let mut paused = live(&alice, &listener);
    listener.wait_stdout("what is live", |out| out == b"x");
    // Somebody waits for one that pauses: after a second it is cut.
    assert_code(&send(&alice, &[&listener.destination("bob")], b"y"), 0);
    assert_eq!(paused.wait_exit(DEADLINE).code(), Some(8), "{}", paused.stderr());
    assert!(listener.poll_exit().is_none(), "-w would have ended it");
}

#[test]
fn a_file_that_others_can_change_is_refused_and_one_that_they_can_read_is_not() {
    let bob = Home::with_identity();
    let path = write(&bob, "[limits]\nmax-clients = 5\n");
    for mode in [0o666, 0o622, 0o602, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let (code, said) = refused(&bob, &["0"]);
        assert_eq!(code, Some(2));
        assert!(said.contains(&format!("mode {mode:04o} lets others change it\n")), "{said}");
        assert!(said.contains(&format!("hint: chmod go-w {}", path.display())), "{said}");
    }
    for mode in [0o600, 0o644, 0o444, 0o755] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        drop(Listener::spawn(&bob, &["127.0.0.1:0"]));
    }
}

#[test]
fn what_is_no_file_of_text_is_refused_and_hangs_nobody() {
    let bob = Home::with_identity();
    let path = write(&bob, "");
    let says = |what: &str| {
        let (code, said) = refused(&bob, &["0"]);
        assert!(code == Some(2) && said.contains(what), "{code:?}: {said}");
    };
    fs::write(&path, "#".repeat(64 * 1024)).unwrap();
    drop(Listener::spawn(&bob, &["127.0.0.1:0"]));
    fs::write(&path, "#".repeat(64 * 1024 + 1)).unwrap();
    says("is larger than 64 KiB");
    fs::write(&path, b"# \xff").unwrap();
    says("is not UTF-8 text");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    says("is not a file");
    fs::remove_dir(&path).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    says("is not a file");
    fs::remove_file(&path).unwrap();
    symlink("/dev/zero", &path).unwrap();
    says("is not a file");
    fs::remove_file(&path).unwrap();
    // A link to a good file is followed, and one that leads nowhere is none.
    symlink(bob.path().join("elsewhere"), &path).unwrap();
    drop(Listener::spawn(&bob, &["127.0.0.1:0"]));
    fs::write(bob.path().join("elsewhere"), "prot = 1").unwrap();
    says("unknown key 'prot'");
}

#[test]
fn more_clients_than_descriptors_are_wrong_usage_from_either() {
    let bob = Home::with_identity();
    write(&bob, "[limits]\nmax-clients = 4000000000\n");
    let (code, said) = refused(&bob, &["0"]);
    assert!(code == Some(2) && said.contains("max-clients 4000000000"), "{said}");
    drop(Listener::spawn(&bob, &["--max-clients", "5", "127.0.0.1:0"]));
}

#[test]
fn a_box_file_and_a_history_need_no_configuration() {
    let bob = Home::with_identity();
    write(&bob, "prot = 1");
    let (code, said) = refused(&bob, &["--open", "/nonexistent"]);
    assert!(code == Some(1) && !said.contains("prot"), "{said}");
}

#[test]
fn every_key_stands_in_the_manual() {
    let page = include_str!("../../man/ac-config.5");
    for key in ["port", "max-clients", "max-per-contact", "max-per-address", "rate", "silence"] {
        assert!(page.contains(&format!("\n.It Li {key}")), "{key}");
    }
}

fn lines() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("port".to_owned()),
        Just("limits".to_owned()),
        Just("max-clients".to_owned()),
        Just("rate".to_owned()),
        Just("silence".to_owned()),
        "[a-z\\-\"'\\.]{0,40}",
    ];
    let value = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        "\"[^\"]{0,20}\"",
        "[0-9a-zA-Z_.+\\-]{0,10}",
        Just("{}".to_owned()),
        Just("[]".to_owned()),
    ];
    let line = (key, value).prop_map(|(key, value)| format!("{key} = {value}"));
    let line = prop_oneof![4 => line, 1 => Just("[limits]".to_owned()), 1 => "\\PC{0,30}"];
    prop::collection::vec(line, 0..8).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_every_error_is_one_harmless_line(text in lines()) {
        if let Err(wrong) = Config::parse(&text) {
            prop_assert!((1..=text.lines().count().max(1) + 1).contains(&wrong.line), "{:?}", wrong);
            let said = wrong.what + wrong.hint.as_deref().unwrap_or("");
            prop_assert!(!said.chars().any(char::is_control) && said.chars().count() < 400, "{:?}", said);
        }
    }

    #[test]
    fn no_characters_make_it_panic(text in "\\PC*|(?s).{0,200}") {
        let _ = Config::parse(&text);
    }
}

/// A relay's public key file at `address` in the keyring, under this name.
fn file_relay(home: &Home, name: &str, address: &str) {
    let key = Home::with_identity();
    let file = fs::read_to_string(key.public_key_file()).unwrap();
    let file = file.replace("anonchat-public", "anonchat-relay");
    fs::create_dir_all(home.path().join("relays")).unwrap();
    let path = home.path().join(format!("relays/{name}.pub"));
    fs::write(path, format!("{file}address = [\"{address}\"]\n")).unwrap();
}

#[test]
fn a_name_of_which_nothing_says_where_it_is_is_looked_for_at_the_relay() {
    let (alice, bob) = alice_and_bob();
    // Nobody listens at either place, so that the error says which one was tried.
    let (relay, elsewhere) = (free_port(), free_port());
    file_relay(&alice, "home", &format!("127.0.0.1:{relay}"));
    write(&alice, "relay = \"home\"\n");
    let said = |args: &[&str]| {
        let output = send(&alice, args, b"x");
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = said(&["bob"]);
    assert!(code == Some(4) && text.contains(&format!("relay home: 127.0.0.1:{relay}")), "{text}");
    let (code, text) = said(&[&format!("bob@127.0.0.1:{elsewhere}")]);
    assert!(code == Some(4) && !text.contains("relay"), "{text}");
    let (code, text) = said(&["-u", "bob"]);
    assert!(code == Some(4) && text.contains("no address is known"), "{text}");
    write(&alice, "relay = \"work\"\n");
    let (code, text) = said(&["bob"]);
    assert_eq!(code, Some(3));
    assert!(text.contains("config.toml: work: no relay of that name"), "{text}");
    // Whose key file says where it is, is looked for there.
    let file = alice.path().join("contacts/bob.pub");
    let hinted = fs::read_to_string(&file).unwrap();
    fs::write(file, format!("{hinted}address = [\"127.0.0.1:{elsewhere}\"]\n")).unwrap();
    let (code, text) = said(&["bob"]);
    assert!(code == Some(4) && !text.contains("relay"), "{text}");
    drop(bob);
}

#[test]
fn a_listener_without_an_operand_listens_at_the_relays_and_one_that_says_where_does_not() {
    let (alice, bob) = alice_and_bob();
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    for home in [&alice, &bob] {
        relay_reader::know(home, &relay, "home", relay.port);
        write(home, "relay = \"home\"\n");
    }
    // What makes sense with relays does so with these.
    let state = bob.path().join("seen");
    let args = ["-1", "--state", state.to_str().unwrap()];
    let mut listener = Running::start(bob.command("ac-listen", &args));
    let said = listener.wait_stderr("listening at relay home");
    assert!(!said.contains("listening on"), "{said}");
    // Neither end says where on its command line.
    assert_code(&send(&alice, &["bob"], b"by the relay"), 0);
    assert!(listener.wait_exit(DEADLINE).success(), "{}", listener.stderr());
    assert_eq!(listener.stdout(), b"by the relay");

    let port = free_port();
    write(&bob, &format!("relay = [\"home\"]\nport = {port}\n"));
    let both = Running::start(bob.command("ac-listen", &[]));
    both.wait_stderr("listening at relay home");
    both.wait_stderr(&format!(":{port} (tcp)"));
    drop(both);
    let address = Listener::spawn(&bob, &["127.0.0.1:0"]);
    assert_code(&send(&alice, &[&address.destination("bob")], b"x"), 0);
    assert!(!address.stderr().contains("relay"), "{}", address.stderr());
    drop(address);

    write(&bob, "relay = [\"work\"]\n");
    let (code, said) = refused(&bob, &[]);
    assert!(code == Some(3) && said.contains("config.toml: work: no relay of that name"), "{said}");
    let (code, said) = refused(&bob, &["--state", state.to_str().unwrap(), "0"]);
    assert!(code == Some(2) && said.contains("nothing of a TCP stream can come twice"), "{said}");
    for args in [&["-u"][..], &["--plain"], &["--announce"]] {
        let (code, said) = refused(&bob, args);
        assert!(code == Some(2) && said.contains("no port is given"), "{args:?}: {said}");
    }
}
