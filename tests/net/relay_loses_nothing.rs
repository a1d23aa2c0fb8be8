//! Nothing that a relay has taken is lost, and nothing arrives twice: whatever is killed and cut on
//! the way. Sizes: `AC_TEST_MESSAGES`, `AC_TEST_CUTS`, `AC_TEST_KILLS`, `AC_TEST_SEEDS` (the first).

use crate::testkit::{common, proxy, relay_client, relay_reader};

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anonchat::crypto::sodium::{Random, SeededRandom};
use common::{Home, Running, eventually, number, send};
use proxy::Proxy;
use relay_client::Relay;
use relay_reader::know;
use rustix::process::Signal;

/// Everything that was sent is there by then, however many they are.
const PATIENCE: Duration = Duration::from_secs(120);

/// A relay behind two proxies, and three people who know each other and it.
struct Scene {
    /// Lives as long.
    relay: Relay,
    to_senders: Proxy,
    to_bob: Arc<Proxy>,
    senders: Vec<(&'static str, Arc<Home>)>,
    bob: Arc<Home>,
}

fn scene() -> Scene {
    let relay = Relay::spawn(&["127.0.0.1:0"]);
    let bob = Arc::new(Home::with_identity());
    know(&bob, &relay, "home", relay.port);
    let senders = ["alice", "carol"].map(|name| {
        let home = Home::with_identity();
        common::befriend(&home, name, &bob, "bob");
        know(&home, &relay, "home", relay.port);
        (name, Arc::new(home))
    });
    let (to_senders, to_bob) = (Proxy::to(relay.port), Arc::new(Proxy::to(relay.port)));
    Scene { relay, to_senders, to_bob, senders: senders.into(), bob }
}

/// Each sender sends its messages one after the other; what each was told.
fn send_all(
    scene: &Scene,
    each: usize,
    args: impl Fn(&Home, usize) -> (Vec<String>, Vec<u8>) + Clone + Send + 'static,
) -> Vec<std::thread::JoinHandle<Vec<i32>>> {
    let via = scene.to_senders.destination("home");
    let thread = |home: &Arc<Home>| {
        let (home, via, args) = (Arc::clone(home), via.clone(), args.clone());
        std::thread::spawn(move || {
            let one = |number| -> i32 {
                let (more, stdin) = args(&home, number);
                let mut words = vec!["-w", "3s", "--via", &via];
                words.extend(more.iter().map(String::as_str));
                let mut attempts = 0..100;
                loop {
                    assert!(attempts.next().is_some(), "message {number}: the relay is not there");
                    let sent = send(&home, &words, &stdin);
                    let code = sent.status.code().unwrap();
                    // A link that is cut before the relay has proved its key: nothing was said.
                    if ![4, 5].contains(&code) {
                        let said = String::from_utf8_lossy(&sent.stderr).into_owned();
                        assert!([0, 7].contains(&code), "message {number}: {code}: {said}");
                        return code;
                    }
                }
            };
            (0..each).map(one).collect()
        })
    };
    scene.senders.iter().map(|(_, home)| thread(home)).collect()
}

fn listen(scene: &Scene, args: &[&str]) -> Running {
    let via = scene.to_bob.destination("home");
    let mut words = vec!["--via", &via];
    words.extend_from_slice(args);
    let mut command = scene.bob.command("ac-listen", &words);
    command.stdin(std::process::Stdio::null());
    Running::start(command)
}

/// Cuts and kills at random until `done`, but no more often than wanted; what every listener wrote.
fn torment(scene: &Scene, args: &[&str], done: &AtomicBool) -> (Vec<Vec<u8>>, Running) {
    let mut rng = SeededRandom::new(number("AC_TEST_SEEDS", 1) as u64);
    let mut below = |limit: usize| {
        let mut draw = [0; 8];
        rng.fill(&mut draw);
        u64::from_be_bytes(draw) as usize % limit
    };
    let (mut cuts, mut kills) = (number("AC_TEST_CUTS", 6), number("AC_TEST_KILLS", 4));
    let mut wrote = Vec::new();
    let mut listener = listen(scene, args);
    while !done.load(Ordering::Relaxed) && cuts + kills > 0 {
        // Pauses make the torment, nothing is awaited by them.
        std::thread::park_timeout(Duration::from_millis(20 + below(380) as u64));
        if below(cuts + kills) < kills {
            kills -= 1;
            listener.kill();
            wrote.push(listener.stdout());
            listener = listen(scene, args);
        } else {
            cuts -= 1;
            if below(2) == 0 { scene.to_bob.interrupt() } else { scene.to_senders.interrupt() }
        }
    }
    (wrote, listener)
}

fn torment_until_sent(
    scene: &Scene,
    args: &[&str],
    senders: Vec<std::thread::JoinHandle<Vec<i32>>>,
) -> (Vec<Vec<u8>>, Running) {
    let done = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&done);
    let waiting = std::thread::spawn(move || {
        let ended: Vec<_> = senders.into_iter().map(std::thread::JoinHandle::join).collect();
        theirs.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| drop(ended.unwrap()));
    });
    let tormented = torment(scene, args, &done);
    waiting.join().unwrap();
    tormented
}

/// The numbers in the names of the files that landed, by sender, in the order of their landing.
fn landed(directory: &Path) -> BTreeMap<String, Vec<usize>> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| {
            let m = entry.metadata().unwrap();
            ((m.ctime(), m.ctime_nsec()), entry.file_name().into_string().unwrap())
        })
        .collect();
    files.sort();
    let mut by_sender = BTreeMap::<_, Vec<_>>::new();
    for (_, name) in files {
        // YYYYMMDD_HHMMSS_FROM_mNNNN; what lands again has more behind it.
        let mut parts = name.splitn(4, '_').skip(2);
        let (from, name) = (parts.next().unwrap(), parts.next().unwrap());
        let number = name.strip_prefix('m').and_then(|n| n.parse().ok());
        let number = number.unwrap_or_else(|| panic!("{from} sent nothing of the name {name}"));
        by_sender.entry(from.to_owned()).or_default().push(number);
    }
    by_sender
}

#[test]
fn every_file_lands_once_and_in_order() {
    let scene = scene();
    let each = number("AC_TEST_MESSAGES", 40) / 2;
    let inbox = scene.bob.path().join("inbox");
    std::fs::create_dir(&inbox).unwrap();
    for (name, home) in &scene.senders {
        for number in 0..each {
            std::fs::write(home.path().join(format!("m{number}")), format!("{name} {number}"))
                .unwrap();
        }
    }
    let senders = send_all(&scene, each, |home, number| {
        let path = home.path().join(format!("m{number}"));
        (vec!["-f".into(), path.to_str().unwrap().into(), "bob".into()], Vec::new())
    });
    let args = ["-d", inbox.to_str().unwrap()];
    let (_, mut listener) = torment_until_sent(&scene, &args, senders);
    let wanted: Vec<_> = (0..each).collect();
    eventually("all files", PATIENCE, || {
        let landed = landed(&inbox);
        let all = scene
            .senders
            .iter()
            .all(|(name, _)| landed.get(*name).is_some_and(|numbers| numbers.len() >= each));
        all.then_some(())
    });
    listener.signal(Signal::TERM);
    listener.wait_exit(common::DEADLINE);
    for (name, numbers) in landed(&inbox) {
        assert_eq!(numbers, wanted, "what {name} sent");
    }
}

#[test]
fn with_a_state_only_what_was_in_doubt_at_a_kill_comes_twice() {
    let scene = scene();
    let each = number("AC_TEST_MESSAGES", 40) / 2;
    let state = scene.bob.path().join("state");
    let senders = send_all(&scene, each, |_, number| {
        (vec!["bob".into()], format!("{number}\n").into_bytes())
    });
    let args = ["--json", "--state", state.to_str().unwrap()];
    let (wrote, mut listener) = torment_until_sent(&scene, &args, senders);
    let heard = |last: &Running| {
        let all = wrote.iter().cloned().chain([last.stdout()]);
        all.map(|bytes| messages(&bytes)).collect::<Vec<_>>()
    };
    eventually("all messages", PATIENCE, || {
        let lives = heard(&listener);
        let mut seen: Vec<_> = lives.iter().flatten().collect();
        seen.sort();
        seen.dedup();
        (seen.len() >= 2 * each).then_some(())
    });
    listener.signal(Signal::TERM);
    listener.wait_exit(common::DEADLINE);
    let lives = heard(&listener);
    let again: usize = lives
        .windows(2)
        .map(|two| two[1].iter().filter(|message| two[0].contains(message)).count())
        .sum();
    assert!(again < lives.len(), "{again} came twice in {} lives", lives.len());
    for (name, _) in &scene.senders {
        let mut seen = Vec::new();
        let theirs = lives.iter().flatten().filter(|(_, from, _)| from == name);
        for message in theirs {
            if !seen.contains(message) {
                seen.push(message.clone());
            }
        }
        let texts: Vec<_> = seen.iter().map(|(.., text)| text.trim().to_owned()).collect();
        let wanted: Vec<_> = (0..each).map(|number| number.to_string()).collect();
        assert_eq!(texts, wanted, "what {name} sent");
    }
}

/// Id, sender and text of each whole message in the NDJSON of one listener. A line that a kill cut
/// off is none.
fn messages(bytes: &[u8]) -> Vec<(String, String, String)> {
    let text = String::from_utf8_lossy(bytes);
    let objects = text.lines().filter_map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        let field = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
        (field("event")? == "message").then_some(())?;
        Some((field("id")?, field("from")?, field("text")?))
    });
    objects.collect()
}

#[test]
fn who_is_told_that_it_was_delivered_is_told_the_truth_when_a_relay_restarts() {
    let scene = scene();
    let Scene { relay, to_senders, to_bob, senders, bob } = scene;
    let (_, alice) = &senders[0];
    let via = to_senders.destination("home");
    for number in 0..3 {
        let sent = send(alice, &["-w", "500ms", "--via", &via, "bob"], &[b'a' + number]);
        common::assert_code(&sent, 7);
    }
    let relay = relay.restarted(&["127.0.0.1:0"]);
    to_senders.lead_to(relay.port);
    to_bob.lead_to(relay.port);
    let via_bob = to_bob.destination("home");
    let mut listener =
        Running::start(bob.command("ac-listen", &["-1", "-w", "20s", "--via", &via_bob]));
    listener.wait_stderr("listening");
    let sent = send(alice, &["--via", &via, "bob"], b"after");
    common::assert_code(&sent, 0);
    assert!(listener.wait_exit(common::DEADLINE).success());
    assert_eq!(
        listener.stdout(),
        b"after",
        "what the relay held is gone, and nobody was told else"
    );
}
