//! Small files wait at a relay as single messages; what is large goes to who is there.

use crate::testkit::{
    common,
    keys::{identity, public},
    relay_reader,
};

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anonchat::proto::datagram::ack::Status;
use anonchat::proto::datagram::packet::{Kind, MAX_MESSAGE};
use anonchat::proto::stream::meta::{MessageKind, Meta};
use common::{DEADLINE, Running, assert_code, send};
use relay_reader::{Message, Recipient, Scene};
use serde_json::Value;

impl Scene {
    fn recipient(&self) -> Recipient {
        Recipient::of(identity(&self.bob), &public(&self.alice), &self.relay)
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.alice.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn sending(&self, args: &[&str]) -> Running {
        Running::start(self.alice.command("ac-send", args))
    }
}

/// META and content of an item.
fn item(message: &Message) -> (Meta, &[u8]) {
    assert_eq!(message.kind, Kind::Item);
    let (len, rest) = message.body.split_at(2);
    let (meta, content) = rest.split_at(usize::from(u16::from_be_bytes([len[0], len[1]])));
    (Meta::decode(meta).unwrap(), content)
}

#[test]
fn small_files_go_one_after_the_other_with_all_that_belongs_to_them() {
    let scene = Scene::new();
    let largest = vec![7; MAX_MESSAGE - 300];
    let (a, b) = (scene.file("a.txt", b"first\n"), scene.file("b.bin", &largest));
    let empty = scene.file("empty", b"");
    fs::set_permissions(&a, fs::Permissions::from_mode(0o640)).unwrap();
    let mut bob = scene.recipient();
    let mut sending = scene.sending(&["--via", "home", "-v", "bob", "--", &a, &b, &empty]);
    for (name, content) in [("a.txt", &b"first\n"[..]), ("b.bin", &largest), ("empty", b"")] {
        let message = bob.deliver();
        let (meta, found) = item(&message);
        assert_eq!(meta.name.as_deref(), Some(name));
        assert_eq!((meta.size, meta.kind), (Some(content.len() as u64), MessageKind::File as u8));
        assert_eq!((meta.id, meta.more), (message.id.to_bytes(), false));
        assert!(meta.mtime.is_some() && found == content);
        if name == "a.txt" {
            assert_eq!(meta.mode, Some(0o640));
        }
    }
    assert!(sending.wait_exit(DEADLINE).success(), "{}", sending.stderr());
    assert!(sending.stderr().contains("bob: a.txt: 6 bytes delivered"), "{}", sending.stderr());
}

#[test]
fn each_file_that_waits_is_told_and_one_of_them_makes_it_code_7() {
    let scene = Scene::new();
    let (a, b) = (scene.file("a", b"1"), scene.file("b", b"22"));
    let args = ["--via", "home", "-w", "1s", "--json", "bob", "--", &a, &b];
    let sent = send(&scene.alice, &args, b"");
    assert_code(&sent, 7);
    let objects: Vec<Value> =
        sent.stdout.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
    let said: Vec<_> = objects
        .iter()
        .map(|o| (o["event"].as_str().unwrap(), o["status"].as_str().unwrap()))
        .filter(|(event, _)| *event != "progress")
        .collect();
    assert_eq!(said, [("file", "queued"), ("file", "queued"), ("result", "queued")]);
    let stderr = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert!(stderr.contains("bob: a: queued at relay home"), "{stderr}");
    assert_eq!(stderr.matches("hint: ").count(), 1, "{stderr}");
    let mut bob = scene.recipient();
    assert_eq!(item(&bob.message()).1, b"1");
    assert_eq!(item(&bob.message()).1, b"22");
    let args = ["--via", "home", "-w", "1s", "--queue", "bob", "-f", &a];
    assert_code(&send(&scene.alice, &args, b""), 0);
}

#[test]
fn a_file_that_is_declined_or_missing_does_not_keep_the_others_from_being_sent() {
    let scene = Scene::new();
    let (a, b) = (scene.file("a", b"1"), scene.file("b", b"22"));
    let gone = format!("{a}-gone");
    let mut bob = scene.recipient();
    let mut sending = scene.sending(&["--via", "home", "bob", "--", &a, &gone, &b]);
    let message = bob.message();
    bob.answer(&message, Status::Declined);
    assert_eq!(item(&bob.deliver()).1, b"22");
    assert_eq!(sending.wait_exit(DEADLINE).code(), Some(1), "{}", sending.stderr());
    let said = sending.stderr();
    assert!(said.contains("bob: a: declined by the recipient"), "{said}");
    assert!(said.contains("a-gone: not sent: no such file or directory"), "{said}");
    let mut sending = scene.sending(&["--via", "home", "bob", "--", &a, &b]);
    let message = bob.message();
    bob.answer(&message, Status::Declined);
    bob.deliver();
    assert_eq!(sending.wait_exit(DEADLINE).code(), Some(8), "{}", sending.stderr());
}

#[test]
fn one_large_file_or_a_folder_makes_all_of_it_a_circuit() {
    let scene = Scene::new();
    let small = scene.file("small", b"1");
    let large = scene.file("large", &vec![0; MAX_MESSAGE]);
    let folder = scene.alice.path().join("folder");
    fs::create_dir(&folder).unwrap();
    for other in [large.as_str(), folder.to_str().unwrap()] {
        let args = ["--via", "home", "-w", "1s", "bob", "--", &small, other];
        let sent = send(&scene.alice, &args, b"");
        assert_code(&sent, 4);
        let said = String::from_utf8_lossy(&sent.stderr).into_owned();
        assert!(said.contains("bob: nobody is there, at relay home"), "{said}");
    }
}
