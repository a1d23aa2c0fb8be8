//! What a listener pays for each of many clients that are there at once: `cargo bench --bench
//! clients`. Each is a contact of its own with a session of its own, which says one message after
//! the other. What they are comes from the environment:
//!
//! | variable | | default |
//! | --- | --- | --- |
//! | `AC_BENCH_CLIENTS` | the numbers of clients | 1,10,100,1000,10000 |
//! | `AC_BENCH_ROUNDS` | listeners for each number, of which the median counts | 3 |
//! | `AC_BENCH_MESSAGES` | messages of one round, at least | 10000 |
//! | `AC_BENCH_KIND` | `messages`, `files` (for `-d`) or `lines` (of chat, for `-i`) | messages |
//! | `AC_BENCH_BYTES` | length of a message, in bytes, 1 MiB at most | 3 |
//!
//! A listener lets 1,000 callers a second in, so that what an opened session costs is its processor
//! time and not the time that passes. Messages have their time beside it, when they come one after
//! the other, and when all clients say one at once. With `AC_BENCH_JSON` each line is an
//! object that has every round's figures.

#[path = "shared/programs.rs"]
mod programs;
#[path = "shared/shake.rs"]
mod shake;

use std::fs::{OpenOptions, create_dir, write};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::{KeyPair, random};
use anonchat::keys::file::KeyedFile;
use anonchat::keys::{Access, Contact, Hints, KeyFile};
use anonchat::proto::stream::meta::{MessageKind, Meta, RESUMED};
use anonchat::proto::stream::outgoing::Outgoing;
use anonchat::proto::stream::record::{Kind, MAX_BODY};
use anonchat::proto::stream::session::{PlainBuffer, Session, plain_buffer};

use programs::{Running, home, raise_descriptors, ready};
use shake::{failed, read_record, shake};

/// What the messages are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Messages,
    Files,
    Lines,
}

impl Says {
    fn told() -> Self {
        match std::env::var("AC_BENCH_KIND").as_deref() {
            Ok("files") => Self::Files,
            Ok("lines") => Self::Lines,
            _ => Self::Messages,
        }
    }

    fn meta(self, len: usize) -> Meta {
        let message = Meta::message(random(), 0);
        let size = Some(len as u64);
        match self {
            Self::Messages => message,
            Self::Files => {
                // Of one name there would be many in a second, and each would look for a free one.
                let name = Some(format!("file{}", u64::from_be_bytes(random())));
                Meta { kind: MessageKind::File as u8, name, size, ..message }
            }
            Self::Lines => Meta { kind: MessageKind::ChatLine as u8, size, ..message },
        }
    }
}

/// ac-listen, and the keys of those whom it hears.
struct Scene {
    listener: Running,
    callee: Contact,
    at: SocketAddr,
    keys: Vec<KeyPair>,
    _home: tempfile::TempDir,
}

impl Scene {
    fn set(clients: usize, says: Says) -> io::Result<Self> {
        let home = home()?;
        let (pair, access) = (KeyPair::generate(), Access::random());
        let identity = KeyedFile::identity(&pair, access.clone(), Hints::default());
        let mut private = OpenOptions::new();
        let file = private.write(true).create_new(true).mode(0o600);
        file.open(home.path().join("identity.key"))?
            .write_all(&KeyFile::Keyed(identity).to_toml()[..])?;
        let contacts = home.path().join("contacts");
        create_dir(&contacts)?;
        let keys: Vec<_> = (0..clients).map(|_| KeyPair::generate()).collect();
        for (number, key) in keys.iter().enumerate() {
            let contact = contact(key, Access::random());
            let text = KeyFile::Public(contact).to_toml();
            write(contacts.join(format!("client{number}.pub")), &text[..])?;
        }
        let inbox = home.path().join("inbox");
        create_dir(&inbox)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_ac-listen"));
        match says {
            Says::Messages => {}
            Says::Files => drop(command.arg("-d").arg(inbox)),
            Says::Lines => drop(command.arg("-i")),
        }
        let mut listener = command
            .args(["-w", "10m", "127.0.0.1:0"])
            .env("AC_HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let at = ready(&mut listener)?;
        let callee = contact(&pair, access);
        Ok(Self { listener: Running(listener), callee, at, keys, _home: home })
    }
}

fn contact(key: &KeyPair, access: Access) -> Contact {
    Contact { public: *key.public(), access, hints: Hints::default() }
}

/// What each client says.
struct Said {
    says: Says,
    content: Vec<u8>,
}

impl Said {
    fn told() -> Self {
        let len = size("AC_BENCH_BYTES", 3).min(RESUMED as usize);
        Self { says: Says::told(), content: b"hi\n".iter().copied().cycle().take(len).collect() }
    }
}

/// One client, whose session is open.
struct Client {
    socket: TcpStream,
    session: Session,
}

impl Client {
    fn call(scene: &Scene, says: Says, me: &KeyPair, plain: &mut PlainBuffer) -> io::Result<Self> {
        let mut socket = TcpStream::connect(scene.at)?;
        socket.set_nodelay(true)?;
        let (session, _) = shake(&mut socket, me, &scene.callee, plain)?;
        let mut client = Self { socket, session };
        if says == Says::Lines {
            client.send(&Meta::greeting(random(), 0), &[], &mut Outgoing::default())?;
            client.answered(plain)?;
        }
        Ok(client)
    }

    fn say(&mut self, said: &Said, out: &mut Outgoing) -> io::Result<()> {
        let meta = said.says.meta(said.content.len());
        self.send(&meta, &said.content, out)
    }

    fn send(&mut self, meta: &Meta, content: &[u8], out: &mut Outgoing) -> io::Result<()> {
        out.clear();
        self.session.seal(Kind::Meta, &meta.encode(), out);
        for piece in content.chunks(MAX_BODY) {
            self.session.seal(Kind::Data, piece, out);
        }
        self.session.seal(Kind::End, &(content.len() as u64).to_be_bytes(), out);
        self.socket.write_all(out.pending())
    }

    /// Waits until what was said is delivered.
    fn answered(&mut self, plain: &mut PlainBuffer) -> io::Result<()> {
        loop {
            let record = read_record(&mut self.socket)?;
            match self.session.open(&record, plain).map_err(failed("an answer"))?.0 {
                Kind::Ack => return Ok(()),
                Kind::Pad => {}
                _ => return Err(io::Error::other("no acknowledgement")),
            }
        }
    }
}

/// What one client, or one message, cost.
#[derive(Default)]
struct Cost {
    /// Processor time of the listener for a session that was opened.
    opened: Vec<f64>,
    /// Its resident memory for one, in bytes.
    resident: Vec<f64>,
    /// Time of a message, one after the other.
    singly: Vec<f64>,
    /// Processor time of the listener for that.
    singly_processor: Vec<f64>,
    /// Time of a message, as many at once as there are clients.
    at_once: Vec<f64>,
    /// Processor time of the listener for that.
    at_once_processor: Vec<f64>,
}

fn each(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

impl Cost {
    /// Adds what `clients` cost at a new listener, with `messages` from them at least.
    fn add(&mut self, clients: usize, messages: usize) -> io::Result<()> {
        let said = &Said::told();
        let scene = Scene::set(clients, said.says)?;
        let (listener, mut plain) = (&scene.listener, plain_buffer());
        let (before, memory) = (listener.processor_time()?, listener.resident()?);
        let called: io::Result<Vec<_>> =
            scene.keys.iter().map(|key| Client::call(&scene, said.says, key, &mut plain)).collect();
        let mut called = called?;
        self.opened.push(each(listener.processor_time()? - before, clients));
        self.resident.push((listener.resident()? - memory) as f64 / clients as f64);
        let mut out = Outgoing::default();
        // Whoever speaks first is given buffers that others use after it.
        for client in &mut called {
            client.say(said, &mut out)?;
            client.answered(&mut plain)?;
        }
        let count = messages.div_ceil(clients) * clients;
        let (began, before) = (Instant::now(), listener.processor_time()?);
        for _ in 0..count / clients {
            for client in &mut called {
                client.say(said, &mut out)?;
                client.answered(&mut plain)?;
            }
        }
        self.singly.push(each(began.elapsed(), count));
        self.singly_processor.push(each(listener.processor_time()? - before, count));
        let (began, before) = (Instant::now(), listener.processor_time()?);
        for _ in 0..count / clients {
            called.iter_mut().try_for_each(|client| client.say(said, &mut out))?;
            called.iter_mut().try_for_each(|client| client.answered(&mut plain))?;
        }
        self.at_once.push(each(began.elapsed(), count));
        self.at_once_processor.push(each(listener.processor_time()? - before, count));
        Ok(())
    }

    /// What each round came to, by name.
    fn figures(self) -> [(&'static str, Vec<f64>); 6] {
        [
            ("us of processor to open", self.opened),
            ("us for a message singly", self.singly),
            ("us of processor for it", self.singly_processor),
            ("us for a message all at once", self.at_once),
            ("us of processor for that", self.at_once_processor),
            ("bytes resident", self.resident),
        ]
    }
}

fn size(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn numbers() -> Vec<usize> {
    let text = std::env::var("AC_BENCH_CLIENTS").unwrap_or_default();
    let told: Vec<_> = text.split(',').filter_map(|n| n.parse().ok()).filter(|n| *n > 0).collect();
    if told.is_empty() { vec![1, 10, 100, 1000, 10_000] } else { told }
}

fn tell(clients: usize, figures: [(&str, Vec<f64>); 6]) -> io::Result<()> {
    if std::env::var_os("AC_BENCH_JSON").is_some() {
        let mut told = serde_json::Map::from_iter([("clients".to_owned(), clients.into())]);
        told.extend(figures.into_iter().map(|(name, values)| (name.to_owned(), values.into())));
        return writeln!(io::stdout(), "{}", serde_json::Value::Object(told));
    }
    let told = figures.map(|(name, mut values)| {
        values.sort_by(f64::total_cmp);
        format!("{:.1} {name}", values[values.len() / 2])
    });
    writeln!(io::stdout(), "{clients} clients, each {}", told.join(", "))
}

fn run() -> io::Result<()> {
    raise_descriptors();
    let (rounds, messages) = (size("AC_BENCH_ROUNDS", 3), size("AC_BENCH_MESSAGES", 10_000));
    for clients in numbers() {
        let mut cost = Cost::default();
        for _ in 0..rounds.max(1) {
            cost.add(clients, messages)?;
        }
        tell(clients, cost.figures())?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    // cargo test --benches builds and starts it: nothing is measured there.
    match std::env::args().any(|arg| arg == "--bench") {
        true => run(),
        false => Ok(()),
    }
}
