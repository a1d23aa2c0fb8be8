//! `--announce`: answers for a listener of this machine, until stopped.

use mio::Events;

use super::door::{Doorkeeper, Policy};
use super::{Ended, Options, PROGRAM, local, say};
use crate::cli::failure::{Code, Failure, system};
use crate::cli::json::{self, Event};
use crate::cli::ready;
use crate::discover::announce::{Announced, Announcement, GATHER, Listening, Member};
use crate::discover::public::PublicName;
use crate::keys::{Keyring, LocalKey, LocalKind, fingerprint};
use crate::net::hub::Hub;
use crate::net::resolve::HostPort;
use crate::net::sockets::Transport;

/// Answers until a signal comes.
pub fn run(options: &Options) -> Result<(), Ended> {
    let listening = listening(options)?;
    let keyring = Keyring::locate().map_err(Failure::from)?;
    let (keys, member) = load(options, &keyring)?;
    let policy = Policy {
        from: Vec::new(),
        accept_unknown: options.accept_unknown,
        groups: keys.iter().map(|k| k.is_group.then(|| *k.pair.public())).collect(),
    };
    let tells = (!options.common.quiet).then_some(PROGRAM);
    let (mut door, broken) = Doorkeeper::new(keyring, policy, tells)?;
    door.trace = options.trace();
    broken.iter().for_each(|error| say(options, &format!("{error} (passed over)")));
    let digits: Vec<_> = keys.iter().map(|key| fingerprint(key.pair.public())).collect();
    let mut hub = Hub::new().map_err(local)?;
    let place = options.place.place();
    let announcement = Announcement::new(hub.registry(), &place, keys, listening.clone(), member);
    let mut announcement = announcement.map_err(|e| cannot_announce(&e, place.port))?;
    for at in &listening {
        say_ready(options, at)?;
    }
    for digits in digits {
        say(options, &format!("fingerprint: {digits}"));
        let event = Event::Key { fingerprint: &digits, kind: None, name: None, hints: None };
        options.common.publish(&json::line(&event))?;
    }
    let shown = options.public_name.as_deref().map(|name| {
        say(options, "everybody on the network sees the name and the address");
        PublicName::show(name, &listening, &place.interfaces).map_err(local)
    });
    // Says good-bye when it is dropped.
    let _shown = shown.transpose()?;
    let mut events = Events::with_capacity(64);
    loop {
        let now = hub.clock.now();
        announcement.serve(now, &mut door);
        std::thread::sleep(GATHER);
        let until = announcement.has_more().then_some(now.mono);
        hub.wait(&mut events, until).map_err(local)?;
        if let Some(signal) = hub.signals.arrived() {
            return Err(Ended::Signal(signal));
        }
    }
}

/// What the operands say, without looking whether anybody listens there.
fn listening(options: &Options) -> Result<Vec<Listening>, Failure> {
    let transport = if options.udp { Transport::Udp } else { Transport::Tcp };
    let mut listening = Vec::new();
    for bind in options.announce.iter().flat_map(|word| word.binds()) {
        let address = bind.address();
        if address.port() == 0 {
            return Err(Failure::new(Code::Usage, "--announce 0: nobody can listen on port 0")
                .hint("say the port that your listener shows, or use ac-listen --announce"));
        }
        listening.push(Listening { address, transport });
    }
    Ok(listening)
}

fn load(options: &Options, keyring: &Keyring) -> Result<(Vec<Announced>, Option<Member>), Failure> {
    let mut passphrases = options.common.passphrases.source();
    let mut keys = Vec::new();
    if options.key.is_empty() {
        keys.push(announced(keyring.identity(&mut passphrases)?));
    }
    for word in &options.key {
        keys.push(announced(keyring.local_key(word, &mut passphrases)?));
    }
    let member = match options.introduce {
        true if !keys.iter().any(|key| key.is_group) => {
            return Err(Failure::new(Code::Usage, "--introduce is for groups")
                .hint("say the group that you introduce yourself to: -k GROUP"));
        }
        true => Some(member(keyring.identity(&mut passphrases)?)),
        false => None,
    };
    Ok((keys, member))
}

fn announced(key: LocalKey) -> Announced {
    let is_group = key.kind == LocalKind::Group;
    Announced { access: *key.access.as_bytes(), pair: key.pair, is_group }
}

/// The identity, as members of a group get to know it.
pub fn member(me: LocalKey) -> Member {
    Member { access: *me.access.as_bytes(), name: me.hints.name, pair: me.pair }
}

/// Why nobody can be answered.
pub fn cannot_announce(e: &std::io::Error, port: u16) -> Failure {
    let failure = Failure::new(Code::Local, format!("UDP port {port}: {}", system(e)));
    match e.kind() {
        std::io::ErrorKind::AddrInUse => {
            failure.hint("another program has it for itself alone: find it with ss -ulpn")
        }
        _ => failure,
    }
}

fn say_ready(options: &Options, at: &Listening) -> Result<(), Failure> {
    let (address, transport) = (HostPort::from(at.address).to_string(), at.transport.name());
    let mut line = format!("announcing {}", ready::place(at.address, transport));
    if at.address.ip().is_loopback() {
        line.push_str(": nobody else on the network can reach that");
    }
    say(options, &line);
    let event = Event::Announcing { address: &address, transport };
    options.common.publish(&json::line(&event))
}
