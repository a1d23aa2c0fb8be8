//! The programs that are measured, each started here and ended with its handle.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anonchat::keys::{Contact, KeyFile};

use super::programs::{Running, home, ready};

/// ac-relay.
pub struct Relay {
    child: Running,
    /// Its public key file.
    pub file: Contact,
    /// The same as text.
    pub text: String,
    /// Where it listens.
    pub at: SocketAddr,
    _home: tempfile::TempDir,
}

impl Relay {
    /// Starts one that is as large as the measurements need.
    pub fn start() -> io::Result<Self> {
        let home = home()?;
        let limits = ["--memory", "4G", "--mailbox-cells", "4000000", "--rate", "0"];
        let path = home.path().join("printed.pub");
        let mut child = Command::new(env!("CARGO_BIN_EXE_ac-relay"))
            .args(limits)
            .arg("127.0.0.1:0")
            .env("AC_HOME", home.path())
            .stdout(File::create(&path)?)
            .stderr(Stdio::piped())
            .spawn()?;
        let at = ready(&mut child)?;
        let text = std::fs::read_to_string(&path)?;
        match KeyFile::parse(text.as_bytes()) {
            Ok(KeyFile::Relay(file)) => {
                Ok(Self { child: Running(child), file, text, at, _home: home })
            }
            _ => Err(io::Error::other("ac-relay printed no public key file of a relay")),
        }
    }

    /// Its resident memory, in bytes.
    pub fn resident(&self) -> io::Result<i64> {
        self.child.resident()
    }

    /// What part of a core it uses in the next `time`.
    pub fn busy(&self, time: Duration) -> io::Result<f64> {
        let before = self.child.processor_time()?;
        std::thread::sleep(time);
        Ok((self.child.processor_time()? - before).as_secs_f64() / time.as_secs_f64())
    }
}

/// mosquitto, with its own defaults but for queues without end.
pub struct Mosquitto {
    _child: Running,
    _home: tempfile::TempDir,
    /// Where it listens.
    pub at: SocketAddr,
}

impl Mosquitto {
    /// `None` if it is not installed.
    pub fn start() -> io::Result<Option<Self>> {
        let home = home()?;
        let at = free_port()?;
        let config = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n",
            at.port()
        );
        let path = home.path().join("mosquitto.conf");
        std::fs::write(&path, config)?;
        let child = Command::new("/usr/sbin/mosquitto")
            .arg("-c")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            child => {
                let _child = Running(child?);
                wait_for(at)?;
                Ok(Some(Self { _child, _home: home, at }))
            }
        }
    }
}

/// A port that nobody had a moment ago, for programs that cannot tell theirs.
pub fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Waits until somebody listens there.
pub fn wait_for(at: SocketAddr) -> io::Result<()> {
    let began = Instant::now();
    while let Err(e) = TcpStream::connect(at) {
        if began.elapsed() > Duration::from_secs(10) {
            return Err(e);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
