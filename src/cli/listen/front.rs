//! Who is heard, and what the user is told beside the messages.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::inbox::{self, Desk};
use super::work::Work;
use crate::cli::common::CommonOptions;
use crate::cli::contact_book::ContactBook;
use crate::cli::failure::Failure;
use crate::cli::json::{self, Event};
use crate::cli::outputs::Told;
use crate::cli::send::why::dial_failure;
use crate::cli::{local_time, plain, ready, trace};
use crate::crypto::sodium::PublicKey;
use crate::keys::{Keyring, fingerprint};
use crate::net::listen::{Caller, Heard, Host, Notice, Origin, RelayNews};
use crate::net::receiver::{Hired, Route};
use crate::net::resolve::HostPort;
use crate::net::sockets::Transport;
use crate::proto::stream::meta::{MessageKind, Meta};
use crate::proto::stream::record::RefuseCode;
use crate::sched::limits::Limit;
use crate::sched::party::{Network, Source};

/// How often the user reads that somebody was turned away, or came to a limit.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Who is heard.
pub struct Policy {
    /// Only these petnames, if there are any.
    pub from: Vec<String>,
    /// Holders of the public key file who are no contacts.
    pub accept_unknown: bool,
    /// For each key that answers, the group's name if it is one.
    pub groups: Vec<Option<String>>,
}

/// The user's side of a listener.
pub struct Front<'a> {
    /// Without a keyring no key is asked for, and nobody is admitted by one.
    contacts: ContactBook<&'a Keyring>,
    policy: Policy,
    turned_away: Option<Instant>,
    kept: BTreeMap<Limit, Instant>,
    quiet: bool,
    verbose: bool,
    told: Told,
    files: Desk,
    work: Work,
}

impl<'a> Front<'a> {
    /// Loads the contacts; a file that is none is reported and passed over.
    ///
    /// # Errors
    /// When the keyring cannot be read.
    pub fn new(
        keyring: Option<&'a Keyring>,
        policy: Policy,
        options: &CommonOptions,
        told: Told,
        files: Desk,
    ) -> Result<Self, Failure> {
        let (contacts, broken) = ContactBook::open(keyring)?;
        let front = Self {
            contacts,
            policy,
            turned_away: None,
            kept: BTreeMap::new(),
            quiet: options.quiet,
            verbose: options.verbose > 0,
            told,
            files,
            work: Work::default(),
        };
        for broken in broken {
            front.told.say(&format!("ac-listen: {broken} (passed over)"));
        }
        Ok(front)
    }

    /// The same, and what is heard goes where `work` says.
    #[must_use]
    pub fn doing(self, work: Work) -> Self {
        Self { work, ..self }
    }

    /// The work, which it does no more.
    pub fn take_work(&mut self) -> Work {
        std::mem::take(&mut self.work)
    }

    /// Petnames of `--from` that no contact has.
    pub fn unknown_names(&self) -> Vec<&String> {
        self.policy.from.iter().filter(|name| !self.contacts.has_name(name)).collect()
    }

    /// The ready line: what is heard where, and the machine's own addresses behind a wildcard.
    pub fn say_listening(&mut self, address: SocketAddr, transport: Transport) {
        let shown = HostPort::from(address).to_string();
        let plain = !self.contacts.has_keyring();
        let transport = transport.name();
        self.told.report(&Event::Listening { address: &shown, transport, plain });
        if self.quiet {
            return;
        }
        let mark = if plain { "PLAIN: " } else { "" };
        let place = ready::place(address, transport);
        self.told.say(&format!("ac-listen: {mark}listening on {place}"));
    }

    /// Whether a relay is listened at.
    fn say_relay(&self, relay: &str, news: RelayNews<'_>) {
        let (status, why) = match news {
            RelayNews::Listening => ("listening", None),
            RelayNews::Refused => {
                ("refused", Some("it lets no more mailboxes be read: some are not".to_owned()))
            }
            RelayNews::Unreached(error) => ("unreached", Some(dial_failure(error).to_string())),
            RelayNews::Lost(why) => ("lost", Some(why.to_owned())),
        };
        self.told.report(&Event::Relay { relay, status, error: why.as_deref() });
        if self.quiet {
            return;
        }
        self.told.say(&match why {
            None => format!("ac-listen: listening at relay {relay}"),
            Some(why) => format!("ac-listen: relay {relay}: {status}: {why}; trying again"),
        });
    }

    /// A key that answers here.
    pub fn say_key(&mut self, public: &PublicKey, group: Option<&str>) {
        let digits = fingerprint(public);
        self.told.report(&Event::Key { fingerprint: &digits, kind: None, name: None, hints: None });
        if !self.quiet {
            let whose = group.map_or_else(String::new, |name| format!(" of group {name}"));
            self.told.say(&format!("ac-listen: fingerprint{whose}: {digits}"));
        }
    }

    /// That nothing is encrypted here, whatever is to be kept quiet about.
    pub fn say_plain(&self) {
        self.told.say(&format!("ac-listen: {}", plain::LISTEN_WARNING));
    }

    fn say_turned_away(&mut self, caller: &PublicKey) {
        if self.turned_away.is_some_and(|last| last.elapsed() < TELL_EVERY) {
            return;
        }
        self.turned_away = Some(Instant::now());
        let digits = fingerprint(caller);
        self.told.report(&Event::TurnedAway { fingerprint: &digits });
        if self.quiet {
            return;
        }
        let (whose, hint) = match self.contacts.petname(caller) {
            Some(name) => (format!("{name} ("), format!("to hear them too: --from {name}")),
            None => (
                "somebody who is not among your contacts (".to_owned(),
                "to let them in, file their public key: ac-keygen --import FILE --as NAME; or \
                 listen with --accept-unknown"
                    .to_owned(),
            ),
        };
        self.told
            .say(&format!("ac-listen: turned away {whose}fingerprint {digits})\nhint: {hint}"));
    }

    /// That somebody has come to a limit, and waits. Addresses are shown to who asks for them.
    fn say_kept(&mut self, limit: Limit, from: Option<&str>, network: Option<Network>) {
        let last = self.kept.get(&limit);
        if last.is_some_and(|last| last.elapsed() < TELL_EVERY) {
            return;
        }
        self.kept.insert(limit, Instant::now());
        let network = network.map(|network| network.to_string());
        let (option, what) = match limit {
            Limit::Clients => ("--max-clients", "too many sessions at once"),
            Limit::PerContact => ("--max-per-contact", "too many sessions at once"),
            Limit::PerAddress => ("--max-per-address", "too many connections at once"),
            Limit::Connections => ("--rate", "too many connections in a short time"),
            Limit::Messages => ("--rate", "too many messages in a short time"),
            Limit::Handshakes => ("", "too many handshakes in a short time"),
        };
        let address = network.as_deref();
        self.told.report(&Event::Limited { limit: limit_name(limit), from, address });
        if self.quiet {
            return;
        }
        let shown = network.as_deref().filter(|_| self.verbose).unwrap_or("an address");
        let whose = match (limit, from) {
            (Limit::Clients | Limit::Handshakes, _) => String::new(),
            (_, Some(name)) => format!("{name}: "),
            (_, None) => format!("{shown}: "),
        };
        let hint = match option {
            "" => String::new(),
            _ => format!("\nhint: {option} sets the limit"),
        };
        self.told.say(&format!("ac-listen: {whose}{what}: some wait{hint}"));
    }

    fn say_delivered(&self, heard: &Heard, bytes: u64) {
        let from = &heard.caller.name;
        let stamp = || local_time::stamp(heard.arrived_ms, heard.arrived_ms);
        let id = &json::hex(&heard.id);
        match heard.caller.origin {
            Origin::Key(_) => {
                self.say_verbosely(|| format!("{from}: {bytes} bytes of {} delivered", stamp()));
                self.told.report(&Event::Delivered { id, from, bytes });
            }
            Origin::Plain(address) => {
                self.say_verbosely(|| format!("{from}: {bytes} bytes of {} written", stamp()));
                let address = &address.to_string();
                self.told.report(&Event::PlainReceived { id, address, bytes });
            }
        }
    }

    fn say_verbosely(&self, line: impl FnOnce() -> String) {
        if self.verbose {
            self.told.say(&format!("ac-listen: {}", line()));
        }
    }
}

impl Host for Front<'_> {
    fn admit(&mut self, caller: &PublicKey, key: usize, proven: bool) -> Option<Caller> {
        if !self.contacts.has_keyring() {
            return None;
        }
        self.contacts.reload_if_changed();
        let petname = self.contacts.petname(caller);
        let known = petname.is_some();
        if !self.policy.from.is_empty() && !petname.is_some_and(|n| self.policy.from.contains(n)) {
            return None;
        }
        let own = petname.cloned().unwrap_or_else(|| unknown_name(caller));
        let name = match self.policy.groups.get(key).and_then(Option::as_ref) {
            // Another member could have forged it.
            Some(group) => format!("{group}/{own}{}", if proven { "" } else { "?" }),
            None if known || self.policy.accept_unknown => own,
            None => return None,
        };
        Some(Caller { name, origin: Origin::Key(*caller), known })
    }

    fn unproven(&mut self, address: SocketAddr) -> Caller {
        let name = plain::name(address.ip());
        Caller { name, origin: Origin::Plain(address), known: false }
    }

    fn route(&mut self, session: Source, caller: &Caller, meta: &Meta) -> Route {
        if inbox::is_file(meta.kind) && !self.work.takes_files(self.files.is_open()) {
            return self.files.route(session, caller, meta);
        }
        if let Some(route) = self.work.route(session, caller, meta) {
            return route;
        }
        let shown = [MessageKind::Message as u8, MessageKind::ChatLine as u8].contains(&meta.kind);
        match shown {
            true => Route::Output,
            false => Route::Refused(RefuseCode::NotWanted, String::new()),
        }
    }

    fn correspondents(&mut self) -> Vec<PublicKey> {
        self.contacts.reload_if_changed();
        let from = &self.policy.from;
        let heard = |name: &String| from.is_empty() || from.contains(name);
        self.contacts.iter().filter(|(_, name)| heard(name)).map(|(key, _)| *key).collect()
    }

    fn hire(&mut self, number: usize, session: Source, caller: &Caller) -> io::Result<Hired> {
        let hired = self.work.hire(number, session, caller);
        hired.unwrap_or_else(|| self.files.hire(session, caller))
    }

    fn is_over(&self) -> bool {
        self.work.is_over()
    }

    fn notice(&mut self, notice: Notice<'_>) {
        match notice {
            Notice::TurnedAway(caller) => self.say_turned_away(caller),
            Notice::Connected(caller, address) => {
                self.say_verbosely(|| format!("{}: connected from {address}", caller.name));
                let shown = address.to_string();
                let plain = is_plain(caller);
                self.told.report(&Event::Connected { peer: &caller.name, address: &shown, plain });
            }
            // Whoever takes files tells what became of them.
            Notice::Delivered(heard, _) | Notice::Cut(heard, _) if inbox::is_file(heard.kind) => {}
            Notice::Delivered(heard, bytes) => self.say_delivered(heard, bytes),
            Notice::Cut(heard, why) => {
                let name = &heard.caller.name;
                if !self.quiet && !self.work.is_stream() {
                    self.told.say(&format!("ac-listen: {name}: the message was cut off: {why}"));
                }
                let plain = is_plain(&heard.caller);
                self.told.report(&Event::Cut { id: &json::hex(&heard.id), from: name, why, plain });
            }
            Notice::Kept(limit, caller) => self.say_kept(limit, Some(&caller.name), None),
            Notice::KeptOut(limit, network) => self.say_kept(limit, None, Some(network)),
            Notice::Disconnected(session, _, parting) => self.work.parted(session, parting),
            Notice::Reached(..) | Notice::NotReached(..) => {}
            Notice::Crossed(crossing) => self.told.say(&trace::lines(crossing)),
            Notice::Relay(name, news) => self.say_relay(name, news),
        }
    }
}

/// What programs call a limit.
fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::Clients => "clients",
        Limit::PerContact => "per_contact",
        Limit::PerAddress => "per_address",
        Limit::Connections => "connections",
        Limit::Handshakes => "handshakes",
        Limit::Messages => "messages",
    }
}

fn is_plain(caller: &Caller) -> bool {
    matches!(caller.origin, Origin::Plain(_))
}

/// The first two groups of the fingerprint stand for a name.
fn unknown_name(caller: &PublicKey) -> String {
    let digits = fingerprint(caller);
    let mut groups = digits.split(' ');
    format!("?{}-{}", groups.next().unwrap_or(""), groups.next().unwrap_or(""))
}
