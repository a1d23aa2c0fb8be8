//! Whoever listens reads that a folder was cut off wherever that happened, between two of its entries
//! too: once, and of nothing that is whole.

use crate::testkit::{caller, common, scene};

use anonchat::crypto::sodium::random;
use anonchat::proto::stream::meta::{MessageKind, Meta};
use anonchat::proto::stream::record::Kind;
use caller::Caller;
use common::{DEADLINE, Listener, eventually};
use scene::{Scene, events};
use serde_json::Value;

/// `ac-listen -d`, and a session with it in which a folder `f` was begun.
struct Cut {
    listener: Listener,
    caller: Caller,
    scene: Scene,
}

impl Cut {
    fn new() -> Self {
        let scene = Scene::new();
        let listener = scene.listen(&["--json"]);
        let caller = Caller::call(&scene.alice, &scene.bob, listener.port());
        let mut cut = Self { listener, caller, scene };
        cut.open("f");
        cut
    }

    fn open(&mut self, name: &str) {
        let offers = |heard: &[(Kind, Vec<u8>)]| {
            heard.iter().filter(|(kind, _)| *kind == Kind::Resume).count()
        };
        let before = offers(&self.caller.heard);
        self.say(Kind::Meta, &entry(name, 0o040_755, Some(3)).encode());
        self.caller.wait("an offer", |heard| offers(heard) > before);
        self.say(Kind::Resume, &0_u64.to_be_bytes());
        self.say(Kind::End, &0_u64.to_be_bytes());
        self.answered();
    }

    fn say(&mut self, kind: Kind, body: &[u8]) {
        self.caller.say(kind, body);
    }

    /// A file of three bytes begins.
    fn begin(&mut self, name: &str) {
        self.say(Kind::Meta, &entry(name, 0o100_644, Some(3)).encode());
        self.say(Kind::Data, b"abc");
    }

    fn end(&mut self, bytes: u64) {
        self.say(Kind::End, &bytes.to_be_bytes());
        self.answered();
    }

    /// All that was said is answered.
    fn answered(&mut self) {
        let ended = self.caller.acks() + 1;
        self.caller.wait("an acknowledgement", |heard| {
            heard.iter().filter(|(kind, _)| *kind == Kind::Ack).count() >= ended
        });
    }

    /// The connection ends. What is told of files and folders then: their names, and what became of
    /// each.
    fn cut(self) -> Vec<(String, String)> {
        let Self { listener, caller, scene } = self;
        drop(caller);
        // What another session brings then is told behind all that is told of this one.
        let mut caller = Caller::call(&scene.alice, &scene.bob, listener.port());
        let meta = Meta::message(random(), 0);
        let meta =
            Meta { kind: MessageKind::File as u8, name: Some("z".into()), size: Some(0), ..meta };
        caller.say(Kind::Meta, &meta.encode());
        caller.say(Kind::End, &0_u64.to_be_bytes());
        let word = |object: &Value, key: &str| object[key].as_str().unwrap().to_owned();
        eventually("all is told", DEADLINE, || {
            let told = events(&listener.stdout(), "file");
            let told = told.iter().map(|object| (word(object, "name"), word(object, "status")));
            let mut told: Vec<_> = told.collect();
            told.pop_if(|(name, _)| name == "z").map(|_| told)
        })
    }
}

fn entry(name: &str, mode: u32, size: Option<u64>) -> Meta {
    let kind = MessageKind::DirectoryEntry as u8;
    Meta {
        kind,
        name: Some(name.into()),
        mode: Some(mode),
        size,
        more: true,
        ..Meta::message(random(), 0)
    }
}

fn told(name: &str, status: &str) -> (String, String) {
    (name.to_owned(), status.to_owned())
}

#[test]
fn between_two_entries_the_folder_is_cut_off() {
    let mut cut = Cut::new();
    cut.begin("f/a");
    cut.end(3);
    assert_eq!(cut.cut(), [told("f", "cut")]);
}

#[test]
fn a_person_reads_of_it() {
    let cut = Cut::new();
    drop(cut.caller);
    cut.listener.wait_stderr("alice: f: cut off; what came of it is kept, to be gone on with");
}

#[test]
fn within_an_entry_that_is_cut_off_and_so_is_the_folder() {
    let mut cut = Cut::new();
    cut.begin("f/a");
    cut.end(3);
    cut.begin("f/b");
    assert_eq!(cut.cut(), [told("f/b", "cut"), told("f", "cut")]);
}

#[test]
fn a_folder_that_another_follows_instead_of_its_end_is_cut_off() {
    let mut cut = Cut::new();
    cut.open("g");
    assert_eq!(cut.cut(), [told("f", "cut"), told("g", "cut")]);
}

#[test]
fn a_folder_that_is_whole_is_not_cut_off() {
    let mut cut = Cut::new();
    cut.begin("f/a");
    cut.end(3);
    cut.say(Kind::Meta, &Meta { more: false, ..entry("f", 0o040_755, None) }.encode());
    cut.end(0);
    assert_eq!(cut.cut(), [told("f", "landed")]);
}
