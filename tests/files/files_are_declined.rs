//! What the recipient does not take, or what cannot be read, has a line of its own and an exit code,
//! and everything else of the list arrives.

use crate::testkit::{common, random::bytes, scene, transfer};

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::process::Command;

use common::{DEADLINE, Listener, assert_code, run, said};
use scene::{Scene, events};
use transfer::tree::describe;

#[test]
fn what_is_too_large_is_declined_and_the_rest_arrives() {
    let scene = Scene::new();
    scene.write("a", "a");
    scene.write("large", bytes(2000));
    scene.write("z", "z");
    let listener = scene.listen(&["--max-file", "1k"]);
    let sent = scene.send(&listener, &[], &["a", "large", "z"]);
    assert_code(&sent, 8);
    assert!(said(&sent).starts_with("ac-send: bob: large: declined: it is larger than"));
    assert_eq!(said(&sent).lines().count(), 1, "{}", said(&sent));
    assert_eq!(scene.landed().len(), 2);
}

#[test]
fn without_a_limit_of_its_own_a_file_has_at_most_10_mib_and_0_is_no_limit() {
    let scene = Scene::new();
    scene.write("fits", vec![1; 10 << 20]);
    scene.write("large", vec![1; (10 << 20) + 1]);
    let listener = scene.listen(&[]);
    assert_code(&scene.send(&listener, &[], &["fits"]), 0);
    assert_code(&scene.send(&listener, &[], &["large"]), 8);
    let listener = scene.listen(&["--max-file", "0"]);
    assert_code(&scene.send(&listener, &[], &["large"]), 0);
}

#[test]
fn a_session_brings_no_more_than_it_may_in_all() {
    let scene = Scene::new();
    for name in ["a", "b", "c", "folder/x", "folder/y"] {
        scene.write(name, bytes(1000));
    }
    let listener = scene.listen(&["--max-total", "2500"]);
    let sent = scene.send(&listener, &["--json"], &["a", "folder", "b", "c"]);
    assert_code(&sent, 8);
    let status: Vec<_> = events(&sent.stdout, "file")
        .iter()
        .map(|file| format!("{}: {}", file["name"], file["status"]))
        .collect();
    let expected = ["a: delivered", "folder: declined", "b: delivered", "c: declined"];
    assert_eq!(status.join(", ").replace('"', ""), expected.join(", "));
    assert_eq!(scene.landed().len(), 2);
}

#[test]
fn a_disk_without_room_declines_before_a_byte_is_sent() {
    let scene = Scene::new();
    // It has a length, and takes no room here.
    File::create(scene.at("endless")).unwrap().set_len(1 << 43).unwrap();
    let listener = scene.listen(&["--max-file", "0"]);
    let sent = scene.send(&listener, &[], &["endless"]);
    assert_code(&sent, 8);
    assert!(said(&sent).contains("no room"), "{}", said(&sent));
    assert!(scene.landed().is_empty());
}

/// A listener whose inbox is a disk of its own.
struct SmallDisk {
    listener: Listener,
    inbox: std::path::PathBuf,
}

impl SmallDisk {
    /// One that is mounted with `options`. `None`, and said so, where nothing can be mounted.
    fn new(scene: &Scene, options: &str, args: &[&str]) -> Option<Self> {
        let can = Command::new("unshare").args(["-m", "true"]).output();
        if !common::possible(can.is_ok_and(|o| o.status.success()), "run as root, with unshare") {
            return None;
        }
        let inbox = scene.inbox();
        let script = "mount -t tmpfs -o \"$1\" none \"$2\" && shift 2 && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh", options]).arg(&inbox);
        command.arg(common::program("ac-listen")).arg("-d").arg(&inbox).arg("127.0.0.1:0");
        command.args(["--max-file", "0"]).args(args);
        scene.bob.at_home(&mut command);
        Some(Self { listener: Listener::start(command), inbox })
    }

    /// The inbox as the listener sees it.
    fn directory(&self) -> std::path::PathBuf {
        let root = format!("/proc/{}/root", self.listener.pid());
        std::path::Path::new(&root).join(self.inbox.strip_prefix("/").unwrap())
    }

    /// `(bytes, files)` that are free, and of how many.
    fn free(&self) -> ((u64, u64), (u64, u64)) {
        let disk = rustix::fs::statvfs(self.directory()).unwrap();
        let bytes = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
        (bytes, (disk.f_favail, disk.f_files))
    }

    fn landed(&self) -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(self.directory()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn what_a_contact_sends_leaves_a_twentieth_of_the_disk_free() {
    let scene = Scene::new();
    let Some(disk) = SmallDisk::new(&scene, "size=40m", &[]) else { return };
    for n in 0..60 {
        scene.write(&format!("{n}"), bytes(1_000_000));
    }
    scene.write("large", bytes(40_500_000));
    let refused = scene.send(&disk.listener, &[], &["large"]);
    assert_code(&refused, 8);
    assert!(said(&refused).contains("the recipient has no room"), "{}", said(&refused));
    assert_eq!(disk.landed().len(), 0, "it was said before a byte was sent");
    let names: Vec<_> = (0..60).map(|n| n.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_code(&scene.send(&disk.listener, &[], &names), 8);
    // Also as one folder, and as an item, and from somebody who tries again.
    for n in 0..60 {
        scene.write(&format!("folder/{n}"), bytes(100_000));
    }
    for _ in 0..3 {
        assert_code(&scene.send(&disk.listener, &[], &["folder"]), 8);
    }
    let ((free, all), _) = disk.free();
    assert!(free >= all / 20 && free < all / 20 + 3_000_000, "{free} of {all}");
    disk.listener.wait_stderr("no room on the disk beside what is kept free");
}

#[test]
fn room_is_kept_for_files_too_where_the_disk_counts_them() {
    let scene = Scene::new();
    let Some(disk) = SmallDisk::new(&scene, "size=40m,nr_inodes=400", &[]) else { return };
    for n in 0..500 {
        scene.write(&format!("many/{n}"), "");
        scene.write(&format!("single/{n}"), "");
        fs::create_dir_all(scene.at(&format!("deep/{n}/a/b/c"))).unwrap();
        std::os::unix::fs::symlink("x", scene.at(&format!("many/link{n}"))).unwrap();
    }
    let names: Vec<_> = (0..500).map(|n| format!("single/{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for paths in [&["many"][..], &["deep"], &names] {
        assert_code(&scene.send(&disk.listener, &[], paths), 8);
        let (_, (free, all)) = disk.free();
        assert!(free >= all / 20, "{free} of {all}");
    }
}

#[test]
fn a_file_that_grows_while_it_is_sent_stops_at_the_reserve() {
    let scene = Scene::new();
    let Some(disk) = SmallDisk::new(&scene, "size=20m", &["--reserve", "5m"]) else { return };
    // Two that fit alone, and not together: what is announced says too little.
    scene.write("a", bytes(10_000_000));
    scene.write("b", bytes(10_000_000));
    let ends: Vec<_> = std::thread::scope(|scope| {
        let (scene, listener) = (&scene, &disk.listener);
        let ends = ["a", "b"]
            .map(|name| scope.spawn(move || scene.send(listener, &[], &[name]).status.code()));
        ends.map(|end| end.join().unwrap()).to_vec()
    });
    assert!(ends.contains(&Some(8)), "{ends:?}");
    let ((free, _), _) = disk.free();
    assert!(free >= 5 << 20, "{free}");
}

#[test]
fn how_much_is_kept_free_is_for_the_user_to_say() {
    for (args, config, fits) in [
        (&["--reserve", "0"][..], "", true),
        (&["--reserve", "0"], "[limits]\nreserve = \"9M\"\n", true),
        (&[], "[limits]\nreserve = 0\n", true),
        (&[], "[limits]\nreserve = \"9M\"\n", false),
        (&["--reserve", "9M"], "[limits]\nreserve = 0\n", false),
        (&["--reserve", "1G"], "", false),
        (&[], "", false),
    ] {
        let scene = Scene::new();
        fs::write(scene.bob.path().join("config.toml"), config).unwrap();
        let Some(disk) = SmallDisk::new(&scene, "size=10m", args) else { return };
        scene.write("a", bytes(10_100_000));
        let code = if fits { 0 } else { 8 };
        assert_code(&scene.send(&disk.listener, &[], &["a"]), code);
    }
}

#[test]
fn what_cannot_be_read_is_a_local_failure_and_the_rest_arrives() {
    let scene = Scene::new();
    scene.write("a", "a");
    scene.write("folder/x", "x");
    scene.write("large", bytes(2000));
    assert!(Command::new("mkfifo").arg(scene.at("folder/pipe")).status().unwrap().success());
    assert!(fs::metadata(scene.at("folder/pipe")).unwrap().file_type().is_fifo());
    std::os::unix::fs::symlink("/etc/passwd", scene.at("folder/out")).unwrap();
    let listener = scene.listen(&["--max-file", "1k"]);
    let sent = scene.send(&listener, &["--json"], &["none", "folder", "large", "a"]);
    // The worst of them: something of ours, before something that was declined.
    assert_code(&sent, 1);
    let (lines, files) = (said(&sent), events(&sent.stdout, "file"));
    for name in ["none", "folder/pipe", "folder/out", "large"] {
        let line = lines.lines().find(|line| line.starts_with(&format!("ac-send: bob: {name}: ")));
        assert!(line.is_some(), "{name}: {lines}");
        let file = files.iter().find(|file| file["name"] == name).unwrap();
        assert!(file["error"].is_string() && file["status"] != "delivered");
    }
    assert_eq!(lines.lines().count(), 4, "{lines}");
    assert_eq!(fs::read(scene.arrived("a")).unwrap(), b"a");
    let folder = scene.arrived("folder");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    assert_eq!(fs::read(folder.join("x")).unwrap(), b"x");
    let result = &events(&sent.stdout, "result")[0];
    assert_eq!((&result["status"], &result["code"]), (&"failed".into(), &1.into()));
}

#[test]
fn where_there_is_nothing_to_send_nobody_is_called() {
    let scene = Scene::new();
    let args = ["bob@127.0.0.1:9", "--", "none", "nothing"];
    let mut command = scene.alice.command("ac-send", &args);
    command.current_dir(scene.alice.path());
    let sent = run(command, b"", DEADLINE);
    assert_code(&sent, 1);
    let none = "ac-send: none: not sent: no such file or directory\n";
    let nothing = "ac-send: nothing: not sent: no such file or directory\n";
    assert_eq!(said(&sent), none.to_owned() + nothing);
}

#[test]
fn files_that_their_owner_may_not_read_are_named() {
    let scene = Scene::new();
    if rustix::process::geteuid().is_root() {
        // Root reads everything; somebody else does not.
        return unreadable_as_somebody_else(&scene);
    }
    scene.write("folder/secret", "x");
    scene.write("folder/shown", "x");
    fs::set_permissions(scene.at("folder/secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let listener = scene.listen(&[]);
    let sent = scene.send(&listener, &[], &["folder"]);
    assert_code(&sent, 1);
    assert!(said(&sent).contains("folder/secret: not sent: permission denied"));
    assert_eq!(describe(&scene.arrived("folder")).len(), 2);
}

fn unreadable_as_somebody_else(scene: &Scene) {
    if !common::need("setpriv") {
        return;
    }
    scene.write("folder/secret", "x");
    scene.write("folder/shown", "x");
    fs::set_permissions(scene.at("folder/secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let listener = scene.listen(&[]);
    // All but the identity itself may be looked at; it is handed to nobody.
    let mut command = Command::new("setpriv");
    let dropped = ["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"];
    let program = common::program("ac-send");
    command.args(dropped).arg(program).args([&listener.destination("bob"), "--", "folder"]);
    scene.alice.at_home(&mut command);
    command.current_dir(scene.alice.path());
    let mut chown = Command::new("chown");
    chown.args(["65534", "folder/secret"]);
    assert!(chowned_in(&mut chown, scene));
    let sent = run(command, b"", DEADLINE);
    assert_code(&sent, 1);
    assert!(said(&sent).contains("folder/secret: not sent: permission denied"), "{}", said(&sent));
    assert!(scene.arrived("folder").join("shown").exists());
}

fn chowned_in(command: &mut Command, scene: &Scene) -> bool {
    command.current_dir(scene.alice.path()).status().unwrap().success()
}
