//! ac-keygen on real files: what it makes, what it refuses, and that it never overwrites.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anonchat::crypto::sodium::{KeyPair, Secret};
use anonchat::keys::protect::{Cost, Protection};
use anonchat::keys::{Access, Hints, KeyFile, KeyedFile, Passphrase};
use tempfile::TempDir;

/// A machine: a keyring of its own.
struct Machine(TempDir);

struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with_identity() -> Self {
        let machine = Self::new();
        machine.good(&["--name", "alice"]);
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ac-keygen"));
        command.args(args).env("AC_HOME", self.path("ring")).current_dir(self.0.path());
        command
    }

    fn run_with(&self, args: &[&str], stdin: &[u8]) -> Outcome {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that refuses early need not read it all.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        let output = child.wait_with_output().unwrap();
        Outcome {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn run(&self, args: &[&str]) -> Outcome {
        self.run_with(args, b"")
    }

    fn good(&self, args: &[&str]) -> Outcome {
        let outcome = self.run(args);
        assert_eq!(outcome.code, Some(0), "{args:?}: {}", outcome.stderr);
        outcome
    }

    fn refused(&self, args: &[&str], code: i32, says: &str) -> Outcome {
        let outcome = self.run(args);
        assert_eq!(outcome.code, Some(code), "{args:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(says), "{args:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "{args:?}");
        outcome
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

fn files_below(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A secret key file behind `passphrase` that opens fast.
fn protected(passphrase: &str) -> String {
    let pair = KeyPair::from_secret(Secret::from_slice(&[3; 32]).unwrap());
    let file = KeyedFile::identity(&pair, Access::random(), Hints::default());
    let passphrase = Passphrase::new(passphrase.as_bytes()).unwrap();
    let protection = Protection::random(Cost { ops: 1, mem_kib: 64 });
    let sealed = file.protected(pair.secret().duplicate(), Some((&passphrase, protection)));
    let text = KeyFile::Keyed(sealed.unwrap_or_else(|e| panic!("{e}"))).to_toml();
    String::from_utf8(text.to_vec()).unwrap()
}

#[test]
fn alone_it_makes_the_identity_and_prints_its_public_half() {
    let m = Machine::new();
    let made = m.good(&[]);
    assert!(made.stdout.starts_with("format = \"anonchat-public\"\nversion = 1\npublic = "));
    assert_eq!(made.stdout, m.text("ring/identity.pub"));
    assert!(!made.stdout.contains("secret"));
    assert!(made.stderr.contains("ac-keygen: fingerprint "), "{}", made.stderr);
    assert_eq!(mode(&m.path("ring")), 0o700);
    assert_eq!(mode(&m.path("ring/identity.key")), 0o600);
    assert_eq!(files_below(&m.path("ring")), ["identity.key", "identity.pub"]);
    assert_eq!(m.good(&["-y"]).stdout, made.stdout);
}

#[test]
fn two_identities_have_nothing_in_common() {
    let (a, b) = (Machine::with_identity(), Machine::with_identity());
    let fields =
        |m: &Machine| m.text("ring/identity.key").lines().map(String::from).collect::<Vec<_>>();
    let (a, b) = (fields(&a), fields(&b));
    for field in ["public", "access", "secret"] {
        let of = |lines: &[String]| lines.iter().find(|l| l.starts_with(field)).unwrap().clone();
        assert_ne!(of(&a), of(&b), "{field}");
    }
}

#[test]
fn an_identity_is_never_overwritten_without_force() {
    let m = Machine::with_identity();
    let before = m.text("ring/identity.key");
    m.refused(&[], 1, "identity.key: exists already");
    assert_eq!(m.text("ring/identity.key"), before);
    fs::remove_file(m.path("ring/identity.key")).unwrap();
    m.refused(&[], 1, "identity.pub: exists already");
    assert!(!m.path("ring/identity.key").exists());
    m.good(&["--force"]);
    assert_ne!(m.text("ring/identity.key"), before);
    assert_eq!(m.good(&["-y"]).stdout, m.text("ring/identity.pub"));
    assert_eq!(mode(&m.path("ring/identity.key")), 0o600);
}

#[test]
fn a_dangling_link_in_the_identitys_place_is_not_written_through() {
    let m = Machine::new();
    fs::create_dir(m.path("ring")).unwrap();
    symlink(m.path("elsewhere"), m.path("ring/identity.key")).unwrap();
    m.refused(&[], 1, "exists already");
    assert!(!m.path("elsewhere").exists());
}

#[test]
fn o_writes_elsewhere_and_leaves_the_keyring_alone() {
    let m = Machine::new();
    let made = m.good(&["-o", "relay.key", "--address", "relay.example.org:4000"]);
    assert!(made.stdout.contains("address = [\"relay.example.org:4000\"]"));
    assert_eq!(mode(&m.path("relay.key")), 0o600);
    assert_eq!(files_below(m.0.path()), ["relay.key"]);
    m.refused(&["-o", "relay.key"], 1, "exists already");
    m.refused(&["-o", "no/such/place"], 1, "cannot write it: no such file or directory");
    m.good(&["-y", "relay.key", "-o", "relay.pub"]);
    assert_eq!(m.text("relay.pub"), made.stdout);
    assert_eq!(mode(&m.path("relay.pub")), 0o644);
    m.refused(&["-y", "relay.key", "-o", "relay.pub"], 1, "exists already");
}

#[test]
fn nothing_temporary_stays_behind() {
    let m = Machine::with_identity();
    m.good(&["--force"]);
    m.good(&["--group", "team"]);
    m.run(&["--group", "team"]);
    assert_eq!(files_below(&m.path("ring/groups")), ["team.key"]);
    assert_eq!(files_below(&m.path("ring")), ["groups", "identity.key", "identity.pub"]);
}

#[test]
fn a_closed_or_full_stdout_is_a_failure() {
    let m = Machine::with_identity();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = m.command(&["-l"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = m.command(&["-l"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write the output"));
}

#[test]
fn imports_take_both_forms_and_file_them_by_what_they_are() {
    let (alice, bob) = (Machine::with_identity(), Machine::with_identity());
    let toml = alice.good(&["-y"]).stdout;
    let line = alice.good(&["-y", "--line"]).stdout;
    assert!(line.starts_with("ac1") && line.lines().count() == 1);
    bob.write("a.pub", &toml, 0o644);
    let filed = bob.good(&["--import", "a.pub"]);
    let fingerprint = &alice.good(&["-l"]).stdout[..47];
    assert_eq!(filed.stdout, format!("{fingerprint}  contacts/alice\n"));
    assert_eq!(bob.text("ring/contacts/alice.pub"), toml);
    assert_eq!(mode(&bob.path("ring/contacts")), 0o700);
    let wrapped = format!("\r\n {}\r\n {}", &line[..40], &line[40..]);
    let from_line = bob.run_with(&["--import", "-", "--as", "al"], wrapped.as_bytes());
    assert_eq!(from_line.code, Some(0), "{}", from_line.stderr);
    assert!(from_line.stderr.contains("also filed as alice"), "{}", from_line.stderr);
    assert_eq!(bob.text("ring/contacts/al.pub"), toml);
    let relay = toml.replace("-public", "-relay").replace("alice", "home");
    assert_eq!(bob.run_with(&["--import", "-"], relay.as_bytes()).code, Some(0));
    assert_eq!(bob.text("ring/relays/home.pub"), relay);
    bob.write("g.key", &group_text(), 0o600);
    bob.good(&["--import", "g.key", "--as", "team"]);
    assert_eq!(mode(&bob.path("ring/groups/team.key")), 0o600);
    let listed = bob.good(&["-l"]).stdout;
    let names: Vec<&str> = listed.lines().map(|l| &l[49..]).collect();
    assert_eq!(names, ["identity", "contacts/al", "contacts/alice", "groups/team", "relays/home"]);
}

fn group_text() -> String {
    "format = \"anonchat-group\"\nversion = 1\n\
     group = \"AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=\"\n"
        .into()
}

#[test]
fn an_import_never_replaces_another_key_but_updates_the_same() {
    let (alice, mallory, bob) =
        (Machine::with_identity(), Machine::with_identity(), Machine::with_identity());
    bob.write("a.pub", &alice.good(&["-y"]).stdout, 0o644);
    bob.write("m.pub", &mallory.good(&["-y"]).stdout, 0o644);
    bob.write("new.pub", &alice.good(&["-y", "--address", "10.0.0.5:1234"]).stdout, 0o644);
    bob.good(&["--import", "a.pub"]);
    let again = bob.good(&["--import", "a.pub"]);
    assert!(again.stderr.contains("the same key was filed already"), "{}", again.stderr);
    let refused = bob.refused(&["--import", "m.pub"], 1, "contacts/alice.pub: exists already");
    assert!(refused.stderr.contains("hint: it is another key"));
    assert_eq!(bob.text("ring/contacts/alice.pub"), bob.text("a.pub"));
    let updated = bob.good(&["--import", "new.pub"]);
    assert!(updated.stderr.contains("hints brought up to date"), "{}", updated.stderr);
    assert!(bob.text("ring/contacts/alice.pub").contains("10.0.0.5:1234"));
    let rotated = bob.text("a.pub").replace("access = \"", "access = \"AAAA");
    let rotated = rotated.lines().map(|l| match l.strip_prefix("access = \"AAAA") {
        Some(rest) => format!("access = \"AAAA{}\n", &rest[4..]),
        None => format!("{l}\n"),
    });
    bob.write("rotated.pub", &rotated.collect::<String>(), 0o644);
    bob.refused(&["--import", "rotated.pub", "--as", "alice"], 1, "exists already");
    bob.good(&["--import", "m.pub", "--force"]);
    assert_eq!(bob.text("ring/contacts/alice.pub"), bob.text("m.pub"));
}

#[test]
fn the_petname_is_as_then_the_hint_then_the_files_name() {
    let (alice, bob) = (Machine::new(), Machine::new());
    let nameless = alice.good(&[]).stdout;
    bob.write("carol.pub", &nameless, 0o644);
    bob.good(&["--import", "carol.pub"]);
    assert!(bob.path("ring/contacts/carol.pub").exists());
    let unnamed = bob.run_with(&["--import", "-"], nameless.as_bytes());
    assert_eq!(unnamed.code, Some(2));
    assert!(unnamed.stderr.contains("hint: give one with --as NAME"), "{}", unnamed.stderr);
    for bad in ["../x", "a b", "-x", "a:b", "a\u{1b}[2J", ""] {
        let as_bad = format!("--as={bad}");
        assert_eq!(bob.run(&["--import", "carol.pub", &as_bad]).code, Some(2), "{bad}");
    }
    assert_eq!(files_below(&bob.path("ring/contacts")), ["carol.pub"]);
}

#[test]
fn a_secret_key_is_not_imported() {
    let m = Machine::with_identity();
    let refused = m.refused(&["--import", "ring/identity.key"], 3, "is a secret key file");
    assert!(refused.stderr.contains("hint: whoever sent it gave their key away"));
}

#[test]
fn files_that_others_can_touch_are_refused_with_what_to_do() {
    let m = Machine::with_identity();
    let path = m.path("ring/identity.key");
    for bits in [0o644, 0o640, 0o604, 0o620, 0o601, 0o660, 0o777] {
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
        let refused = m.refused(&["-y"], 3, &format!("mode {bits:04o} lets others at"));
        assert!(refused.stderr.contains(&format!("hint: chmod 600 {}", path.display())));
    }
    for bits in [0o600, 0o400, 0o700] {
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
        m.good(&["-y"]);
    }
    m.write("team.key", &group_text(), 0o644);
    m.refused(&["--import", "team.key", "--as", "team"], 3, "mode 0644 lets others at");
}

#[test]
fn a_secret_key_that_belongs_to_somebody_else_is_refused() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give a file away, so only root can lay the trap.
        return;
    }
    let m = Machine::with_identity();
    std::os::unix::fs::chown(m.path("ring/identity.key"), Some(12345), None).unwrap();
    m.refused(&["-y"], 3, "identity.key: belongs to user 12345, not to you");
}

#[test]
fn an_error_shows_a_whole_path_but_only_the_start_of_what_a_stranger_wrote() {
    let m = Machine::new();
    let name = format!("{}.pub", "p".repeat(240));
    m.write(&name, &format!("format = \"{}\"\n", "\\u001b[31m".repeat(5000)), 0o644);
    let refused = m.refused(&["--import", &name], 3, "unknown format '?[31m?[31m");
    let first = refused.stderr.lines().next().unwrap();
    assert!(first.contains(&name) && first.len() < 400, "{first}");
}

#[test]
fn what_is_no_regular_file_is_refused_and_never_waited_for() {
    let m = Machine::with_identity();
    symlink(m.path("ring/identity.pub"), m.path("link.pub")).unwrap();
    symlink(m.path("ring/identity.key"), m.path("link.key")).unwrap();
    fs::create_dir(m.path("dir.pub")).unwrap();
    let fifo = Command::new("mkfifo").arg(m.path("fifo.pub")).status().unwrap();
    assert!(fifo.success());
    m.refused(&["--import", "link.pub"], 3, "link.pub: is a symbolic link");
    m.refused(&["-y", "link.key"], 3, "link.key: is a symbolic link");
    m.refused(&["--import", "dir.pub"], 3, "dir.pub: is a directory");
    m.refused(&["--import", "fifo.pub"], 3, "fifo.pub: is a FIFO");
    m.refused(&["--import", "/dev/null"], 3, "/dev/null: is a device");
    m.refused(&["--import", "missing.pub"], 3, "missing.pub: no such file");
    fs::rename(m.path("ring/identity.key"), m.path("moved.key")).unwrap();
    symlink(m.path("moved.key"), m.path("ring/identity.key")).unwrap();
    m.refused(&["-y"], 3, "identity.key: is a symbolic link");
}

#[test]
fn truncated_and_oversized_files_are_refused() {
    let m = Machine::with_identity();
    let whole = m.text("ring/identity.key");
    for len in [0, 1, 20, whole.len() / 2, whole.len() - 3] {
        m.write("cut.key", &whole[..len], 0o600);
        let cut = m.run(&["-y", "cut.key"]);
        assert_eq!((cut.code, cut.stdout.as_str()), (Some(3), ""), "{len}: {}", cut.stderr);
    }
    m.write("big.pub", &(m.text("ring/identity.pub") + "#" + &"x".repeat(70 * 1024)), 0o644);
    m.refused(&["--import", "big.pub"], 3, "big.pub: is larger than 64 KiB");
    let endless = m.run_with(&["--import", "-"], &vec![b'#'; 1 << 20]);
    assert_eq!(endless.code, Some(3));
    assert!(endless.stderr.contains("stdin: is larger than 64 KiB"), "{}", endless.stderr);
}

#[test]
fn dos_line_ends_are_fine() {
    let (alice, bob) = (Machine::with_identity(), Machine::new());
    let toml = alice.good(&["-y"]).stdout;
    bob.write("a.pub", &toml.replace('\n', "\r\n"), 0o644);
    bob.good(&["--import", "a.pub"]);
    assert_eq!(bob.text("ring/contacts/alice.pub"), toml);
}

#[test]
fn both_ends_of_a_pair_see_one_safety_number() {
    let (alice, bob) = (Machine::with_identity(), Machine::with_identity());
    alice.write("b.pub", &bob.good(&["-y"]).stdout, 0o644);
    bob.write("a.pub", &alice.good(&["-y"]).stdout, 0o644);
    alice.good(&["--import", "b.pub", "--as", "bob"]);
    let number = alice.good(&["--verify", "bob"]).stdout;
    assert_eq!(number.trim_end().split(' ').map(str::len).collect::<Vec<_>>(), [5; 8]);
    assert_eq!(bob.good(&["--verify", "./a.pub"]).stdout, number);
    assert_eq!(bob.good(&["--verify", "./a.pub", "ring/identity.key"]).stdout, number);
    let itself = bob.good(&["--verify", "./a.pub", "./a.pub"]);
    assert_ne!(itself.stdout, number);
    assert!(itself.stderr.contains("both are the same key"));
    let unknown = bob.refused(&["--verify", "nobody"], 3, "nobody: no contact or group");
    assert!(unknown.stderr.contains("hint: file their public key"), "{}", unknown.stderr);
    let json = alice.good(&["--verify", "bob", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["number"], number.trim_end());
}

/// A relay's key file at `address`, and the digits that name it.
fn relay_file(m: &Machine, name: &str, address: &str) -> (String, String) {
    let text = m.good(&["-o", &format!("{name}.key")]).stdout;
    let text = text.replace("anonchat-public", "anonchat-relay");
    m.write(&format!("{name}.pub"), &format!("{text}address = [\"{address}\"]\n"), 0o644);
    let listed = m.good(&["-l", &format!("{name}.pub")]).stdout;
    (format!("./{name}.pub"), listed[..47].to_owned())
}

/// The lines of claims on stderr.
fn claims(outcome: &Outcome) -> Vec<&str> {
    outcome.stderr.lines().filter_map(|line| line.strip_prefix("  ")).collect()
}

#[test]
fn a_file_whose_access_was_changed_on_its_way_has_another_safety_number() {
    let (alice, bob) = (Machine::with_identity(), Machine::with_identity());
    let file = bob.good(&["-y"]).stdout;
    let other = alice.good(&["-y"]).stdout;
    let access = |file: &str| file.lines().find(|l| l.starts_with("access")).unwrap().to_owned();
    alice.write("b.pub", &file, 0o644);
    alice.write("changed.pub", &file.replace(&access(&file), &access(&other)), 0o644);
    bob.write("a.pub", &other, 0o644);
    let theirs = bob.good(&["--verify", "./a.pub"]).stdout;
    assert_eq!(alice.good(&["--verify", "./b.pub"]).stdout, theirs);
    assert_ne!(alice.good(&["--verify", "./changed.pub"]).stdout, theirs);
    let prints =
        ["./b.pub", "./changed.pub"].map(|f| alice.good(&["-l", f]).stdout[..47].to_owned());
    assert_eq!(prints[0], prints[1], "a fingerprint names the key alone");
    alice.good(&["--import", "b.pub", "--as", "bob"]);
    let refused = alice.refused(&["--import", "changed.pub", "--as", "bob"], 1, "exists already");
    assert!(refused.stderr.contains("the same key with another access"), "{}", refused.stderr);
}

#[test]
fn import_and_verify_show_where_a_file_has_packets_sent_as_its_claim() {
    let (alice, bob) = (Machine::with_identity(), Machine::new());
    let (home, digits) = relay_file(&bob, "home", "relay.example.org:7000");
    bob.good(&["--name", "bobby", "--address", "10.0.0.5:1234", "--relay", &home]);
    alice.write("b.pub", &bob.text("ring/identity.pub"), 0o644);
    let filed = alice.good(&["--import", "b.pub", "--as", "bob"]);
    let shown = claims(&filed);
    assert!(filed.stderr.contains("contacts/bob: the file claims this, and nothing proves it:"));
    assert_eq!(
        shown[..3],
        ["name: bobby", "address: 10.0.0.5:1234", "relay address: relay.example.org:7000"]
    );
    assert_eq!(shown[3], format!("relay fingerprint: {digits}"));
    assert_eq!(claims(&alice.good(&["--verify", "bob"])).last(), shown.last());
    // What bob compares it with is shown at his end.
    bob.write("a.pub", &alice.good(&["-y"]).stdout, 0o644);
    let verified = bob.good(&["--verify", "./a.pub"]);
    assert!(shown.iter().all(|line| claims(&verified).contains(line)), "{}", verified.stderr);
    let json = alice.good(&["--verify", "bob", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["b_hints"]["relay"]["fingerprint"], digits);
    assert_eq!(json["b_hints"]["address"][0], "10.0.0.5:1234");
}

#[test]
fn whatever_else_was_changed_in_a_file_on_its_way_is_shown() {
    let (alice, bob) = (Machine::with_identity(), Machine::new());
    let (home, _) = relay_file(&bob, "home", "relay.example.org:7000");
    let (planted, _) = relay_file(&bob, "planted", "relay.example.org:7000");
    bob.good(&["--name", "bobby", "--address", "10.0.0.5:1234", "--relay", &home]);
    let file = bob.text("ring/identity.pub");
    let table = file.find("[relay]").unwrap();
    let other = bob.text("planted.pub");
    let line =
        |text: &str, field: &str| text.lines().find(|l| l.starts_with(field)).unwrap().to_owned();
    let within = |field: &str| {
        let (head, tail) = file.split_at(table);
        format!("{head}{}", tail.replace(&line(tail, field), &line(&other, field)))
    };
    let changed = [
        file.replace("bobby", "bob"),
        file.replace("10.0.0.5", "10.0.0.6"),
        file.replace("relay.example.org", "relay.example.net"),
        file[..table].to_owned(),
        format!("{}relay = \"home\"\n", &file[..table]),
        within("public"),
        within("access"),
        bob.good(&["-y", "--relay", &planted]).stdout,
    ];
    let seen = |text: &str| {
        alice.write("b.pub", text, 0o644);
        let verified = alice.good(&["--verify", "./b.pub"]);
        let imported = alice.good(&["--import", "b.pub", "--as", "bob", "--force"]);
        let lines = |outcome: &Outcome| claims(outcome).join("\n");
        (verified.stdout.clone(), lines(&verified), lines(&imported))
    };
    let (number, verified, imported) = seen(&file);
    for text in &changed {
        let now = seen(text);
        assert_eq!(now.0, number, "hints are not in the number");
        assert_ne!(now.1, verified, "{text}");
        assert_ne!(now.2, imported, "{text}");
    }
    // Brought up to date without --force, it says what was there before.
    alice.write("b.pub", &file, 0o644);
    alice.good(&["--import", "b.pub", "--as", "bob", "--force"]);
    alice.write("b.pub", &changed[1], 0o644);
    let updated = alice.good(&["--import", "b.pub", "--as", "bob"]);
    let addresses =
        claims(&updated).into_iter().filter(|l| l.starts_with("address")).collect::<Vec<_>>();
    assert_eq!(addresses, ["address: 10.0.0.5:1234", "address: 10.0.0.6:1234"]);
}

#[test]
fn without_an_identity_it_says_how_to_make_one() {
    let m = Machine::new();
    for args in [&["-y"][..], &["--change-passphrase"], &["--verify", "bob"]] {
        let refused = m.refused(args, 3, "identity.key: there is no identity yet");
        assert!(refused.stderr.contains("hint: make one: ac-keygen"));
    }
    assert_eq!(m.good(&["-l"]).stdout, "");
    assert!(!m.path("ring").exists(), "looking creates nothing");
}

#[test]
fn a_listing_goes_on_past_a_broken_file() {
    let m = Machine::with_identity();
    fs::create_dir(m.path("ring/contacts")).unwrap();
    m.write("ring/contacts/bad.pub", "nonsense", 0o644);
    m.write("ring/contacts/a b.pub", &m.text("ring/identity.pub"), 0o644);
    m.write("ring/contacts/zoe.pub", &m.text("ring/identity.pub"), 0o644);
    m.write("ring/contacts/.zoe.pub.1.tmp", "half", 0o644);
    let listed = m.run(&["-l"]);
    assert_eq!(listed.code, Some(3));
    assert_eq!(listed.stdout.lines().count(), 2);
    assert!(listed.stdout.ends_with("contacts/zoe\n"), "{}", listed.stdout);
    assert!(listed.stderr.contains("bad.pub: is no key file: line 1"), "{}", listed.stderr);
    assert!(listed.stderr.contains("a b.pub: a name cannot contain blanks"), "{}", listed.stderr);
    let named = m.run(&["-l", "ring/contacts/zoe.pub", "ring/contacts/bad.pub"]);
    assert_eq!((named.code, named.stdout.lines().count()), (Some(3), 1));
}

#[test]
fn a_groups_password_gives_the_same_key_on_two_machines() {
    let (one, two) = (Machine::new(), Machine::new());
    let password = b"cavity-walnut-plunge-orbit\n";
    let make = |m: &Machine, name: &str| {
        let made =
            m.run_with(&["--group", name, "--from-password", "--passphrase-fd", "0"], password);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        m.text(&format!("ring/groups/{name}.key"))
    };
    assert_eq!(make(&one, "team"), make(&two, "team"));
    assert_ne!(make(&one, "others"), one.text("ring/groups/team.key").replace("team", "others"));
    assert_eq!(mode(&one.path("ring/groups/team.key")), 0o600);
}

#[test]
fn a_weak_group_password_is_refused() {
    let m = Machine::new();
    for weak in ["", "hunter2", "password1234", "aaaaaaaaaaaaaaaaaaaa", "team2024team2024"] {
        let args = ["--group", "team", "--from-password", "--passphrase-fd", "0"];
        let refused = m.run_with(&args, format!("{weak}\n").as_bytes());
        assert_eq!(refused.code, Some(2), "{weak}");
        assert!(refused.stderr.contains("too easy to guess"), "{weak}: {}", refused.stderr);
    }
    assert!(!m.path("ring").exists());
}

#[test]
fn random_groups_differ_and_are_not_overwritten() {
    let m = Machine::new();
    m.good(&["--group", "team"]);
    m.good(&["--group", "other", "-o", "other.key"]);
    assert!(!m.path("ring/groups/other.key").exists());
    let g = |text: String| text.lines().find(|l| l.starts_with("group = ")).unwrap().to_owned();
    assert_ne!(g(m.text("ring/groups/team.key")), g(m.text("other.key")));
    m.refused(&["--group", "team"], 1, "team.key: exists already");
}

#[test]
fn a_passphrase_is_set_asked_for_changed_and_removed() {
    let m = Machine::new();
    m.write("first", "first passphrase\n", 0o600);
    m.write("second", "second passphrase\r\nand more\n", 0o600);
    m.write("empty", "\n", 0o600);
    let made = m.good(&["-p", "--passphrase-file", "first"]);
    assert!(m.text("ring/identity.key").contains("kdf = \"argon2id13\""));
    m.refused(&["-y", "--passphrase-file", "second"], 3, "wrong passphrase");
    assert_eq!(m.good(&["-y", "--passphrase-file", "first"]).stdout, made.stdout);
    let change = |old: &str, new: &str| {
        m.good(&["--change-passphrase", "--passphrase-file", old, "--new-passphrase-file", new])
    };
    change("first", "second");
    m.refused(&["-y", "--passphrase-file", "first"], 3, "wrong passphrase");
    m.write("typed", "second passphrase", 0o600);
    assert_eq!(m.good(&["-y", "--passphrase-file", "typed"]).stdout, made.stdout);
    assert!(change("second", "empty").stderr.contains("passphrase removed"));
    assert_eq!(m.good(&["-y"]).stdout, made.stdout);
    assert_eq!(mode(&m.path("ring/identity.key")), 0o600);
    assert_eq!(files_below(&m.path("ring")), ["identity.key", "identity.pub"]);
}

#[test]
fn an_empty_passphrase_protects_nothing_and_is_refused() {
    let m = Machine::new();
    m.write("empty", "\n", 0o600);
    m.refused(&["-p", "--passphrase-file", "empty"], 3, "an empty passphrase protects nothing");
    assert!(!m.path("ring/identity.key").exists());
}

#[test]
fn a_passphrase_descriptor_is_read_to_its_first_newline_only() {
    let m = Machine::new();
    m.write("id.key", &protected("open sesame"), 0o600);
    let script =
        "printf 'open sesame\\nrest of it\\n' | { \"$0\" -y id.key --passphrase-fd 0; cat; }";
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_ac-keygen")])
        .current_dir(m.0.path())
        .env("AC_HOME", m.path("ring"))
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.starts_with("format = \"anonchat-public\""), "{stdout}");
    assert!(stdout.ends_with("rest of it\n"), "{stdout}");
}

#[test]
fn a_passphrase_that_cannot_be_had_is_an_error_with_its_reason() {
    let m = Machine::new();
    m.write("id.key", &protected("open sesame"), 0o600);
    m.refused(&["-y", "id.key", "--passphrase-fd", "99"], 3, "needs a passphrase: descriptor 99");
    m.refused(&["-y", "id.key", "--passphrase-file", "none"], 3, "needs a passphrase: none");
    m.write("long", &"x".repeat(5000), 0o600);
    m.refused(&["-y", "id.key", "--passphrase-file", "long"], 3, "longer than 1024 bytes");
    m.write("escape", "open\u{1b}sesame\n", 0o600);
    m.refused(&["-y", "id.key", "--passphrase-file", "escape"], 3, "control character");
    // Listing shows what stands in clear and asks nobody.
    assert!(m.good(&["-l", "id.key"]).stdout.ends_with("  id.key\n"));
}

#[test]
fn a_relay_from_the_keyring_travels_inside_the_public_key_file() {
    let (relay, alice, bob) = (Machine::new(), Machine::new(), Machine::new());
    let file = relay.good(&["--address", "relay.example.org:4000", "--name", "home"]).stdout;
    alice.refused(&["--relay", "home"], 3, "home: no relay of that name");
    let file = file.replace("-public", "-relay");
    assert_eq!(alice.run_with(&["--import", "-"], file.as_bytes()).code, Some(0));
    let public = alice.good(&["--relay", "home", "--name", "alice"]).stdout;
    assert!(public.contains("\n[relay]\npublic = "), "{public}");
    assert!(public.ends_with("address = [\"relay.example.org:4000\"]\n"), "{public}");
    let line = alice.good(&["-y", "--line"]).stdout;
    assert_eq!(bob.run_with(&["--import", "-"], line.as_bytes()).code, Some(0));
    assert_eq!(bob.text("ring/contacts/alice.pub"), public);
}

#[test]
fn wrong_usage_exits_2() {
    let m = Machine::new();
    for args in [
        &["--nonsense"][..],
        &["stray"],
        &["-y", "-l"],
        &["--as", "bob"],
        &["--from-password"],
        &["--group", "a/b"],
        &["--address", "nowhere"],
        &["--name", "a b"],
        &["--json"],
        &["--group", "g", "--line"],
        &["--import", "x", "-p"],
        &["--verify"],
        &["--passphrase-fd", "-1"],
        &["--passphrase-fd", "0", "--passphrase-file", "x"],
    ] {
        assert_eq!(m.run(args).code, Some(2), "{args:?}");
    }
    assert!(!m.path("ring").exists());
}

#[test]
fn help_ends_with_the_table_of_exit_codes() {
    let help = Machine::new().good(&["--help"]).stdout;
    assert!(help.contains("\nExit status:\n  0 "), "{help}");
    assert!(help.trim_end().ends_with("died of SIGHUP, SIGINT, SIGTERM"), "{help}");
}
