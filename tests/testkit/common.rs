//! The harness of the tests that run the real programs: homes, listeners, senders, deadlines.
//!
//! ```ignore
//! let (alice, bob) = alice_and_bob();
//! let mut listener = Listener::spawn(&bob, &["-1", "127.0.0.1:0"]);
//! let sent = send(&alice, &[&listener.destination("bob")], b"hi\n");
//! assert_code(&sent, 0);
//! assert!(listener.wait_exit(DEADLINE).success());
//! assert_eq!(listener.stdout(), b"hi\n");
//! ```
//!
//! Nothing here sleeps for a fixed time: every wait has a condition and a deadline, and a missed
//! deadline is a panic that shows what the program said. A program still running at the end of its
//! scope is killed, with its children.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

/// Long enough for a busy machine with two cores; a test that fails waits so long, no other.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A number of the environment, by which tests can be made larger: `AC_TEST_…`.
pub fn number<N: FromStr<Err: Debug>>(variable: &str, default: N) -> N {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// The time of this machine, Unix ms.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A port at which nobody listens now.
pub fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

/// The names of what is in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = directory.read_dir().unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// All files at any depth of a folder of this crate.
pub fn files_below(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let (mut files, mut folders) =
        (vec![], vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)]);
    while let Some(folder) = folders.pop() {
        let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
        let (inner, found): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
        folders.extend(inner);
        files.extend(found);
    }
    files
}

/// Where cargo put a program of this crate.
pub fn program(name: &str) -> PathBuf {
    heed_signals();
    let path = match name {
        "ac-discover" => env!("CARGO_BIN_EXE_ac-discover"),
        "ac-keygen" => env!("CARGO_BIN_EXE_ac-keygen"),
        "ac-listen" => env!("CARGO_BIN_EXE_ac-listen"),
        "ac-relay" => env!("CARGO_BIN_EXE_ac-relay"),
        "ac-send" => env!("CARGO_BIN_EXE_ac-send"),
        _ => panic!("this crate has no program {name}"),
    };
    path.into()
}

/// The test that calls this, to run in a process of its own: `again(module_path!(), "its_name")`.
pub fn again(module: &str, test: &str) -> Command {
    let (_, module) = module.split_once("::").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--nocapture", "--exact", &format!("{module}::{test}")]);
    command
}

/// Panics unless what [`again`] started ran its test, and that passed.
pub fn assert_passed(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}

/// Gives the programs that are started from now on the signals as a shell at a terminal does. A test
/// program that was started by `nohup`, or in the background of a script, ignores some, and what is
/// ignored stays so in whatever it runs; what is caught does not. What this thread blocks is blocked
/// there, too.
pub fn heed_signals() {
    nix::sys::signal::SigSet::all().thread_unblock().unwrap();
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in ignored_signals() {
            // Caught, and nothing done about it: this program itself goes on as if it were ignored.
            signal_hook::flag::register(signal, Arc::default()).unwrap();
        }
    });
}

/// Those that this program ignores, SIGPIPE aside: every Rust program does that, and lets it be itself
/// in what it runs.
fn ignored_signals() -> impl Iterator<Item = i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.map_or(0, |hex| u64::from_str_radix(hex.trim(), 16).unwrap());
    let no_matter = [signal_hook::consts::SIGPIPE]
        .into_iter()
        .chain(signal_hook::consts::FORBIDDEN.iter().copied());
    let no_matter: Vec<i32> = no_matter.collect();
    (1..32).filter(move |signal| mask >> (signal - 1) & 1 == 1 && !no_matter.contains(signal))
}

/// A person: a folder of their own as `$AC_HOME`, removed at the end.
pub struct Home(TempDir);

impl Home {
    /// An empty one.
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// One with an identity that `ac-keygen` made.
    pub fn with_identity() -> Self {
        let home = Self::new();
        assert_code(&home.keygen(&[]), 0);
        home
    }

    /// The folder; a good place for a test's own files too.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The public key file to hand out.
    pub fn public_key_file(&self) -> PathBuf {
        self.path().join("identity.pub")
    }

    /// `program` as this person runs it: pipes on all three descriptors, nothing of the
    /// environment that could change what it does.
    pub fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program(name));
        command.args(args);
        self.at_home(&mut command);
        command
    }

    /// The same with no more descriptors than that. Those that the tests were started with, as by a
    /// `make -j`, are not among them.
    pub fn command_with_descriptors(&self, count: usize, name: &str, args: &[&str]) -> Command {
        let close = (3..10).map(|fd| format!("{fd}>&- ")).collect::<String>();
        let script = format!("exec {close}; ulimit -n {count} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(program(name)).args(args);
        self.at_home(&mut command);
        command
    }

    /// Makes any command one of this person, as [`Home::command`] does.
    pub fn at_home(&self, command: &mut Command) {
        heed_signals();
        command.env("AC_HOME", self.path()).env("HOME", self.path()).env("TZ", "UTC");
        command.env_remove("XDG_CONFIG_HOME").env_remove("RUST_BACKTRACE");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }

    /// Runs `ac-keygen` with an empty stdin.
    pub fn keygen(&self, args: &[&str]) -> Output {
        run(self.command("ac-keygen", args), b"", DEADLINE)
    }

    /// Files the public key of `other` under `name`.
    pub fn import(&self, other: &Home, name: &str) {
        let file = other.public_key_file();
        assert_code(&self.keygen(&["--import", file.to_str().unwrap(), "--as", name]), 0);
    }
}

/// Two people import each other: `a` is known to `b` as `name_of_a`, and the other way round.
pub fn befriend(a: &Home, name_of_a: &str, b: &Home, name_of_b: &str) {
    a.import(b, name_of_b);
    b.import(a, name_of_a);
}

/// Alice and Bob, who know each other by these names.
pub fn alice_and_bob() -> (Home, Home) {
    let (alice, bob) = (Home::with_identity(), Home::with_identity());
    befriend(&alice, "alice", &bob, "bob");
    (alice, bob)
}

/// Runs `ac-send` to its end.
pub fn send(home: &Home, args: &[&str], stdin: &[u8]) -> Output {
    run(home.command("ac-send", args), stdin, DEADLINE)
}

/// Runs a command made by [`Home::command`] to its end, `stdin` being all that it reads.
pub fn run(command: Command, stdin: &[u8], deadline: Duration) -> Output {
    let mut running = Running::start(command);
    running.feed(stdin.to_vec());
    let status = running.wait_exit(deadline);
    Output { status, stdout: running.stdout(), stderr: running.stderr().into_bytes() }
}

/// What a program that has ended said on stderr.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Writes to the stdin of a program, which stays open.
pub fn say(program: &mut Running, text: &str) {
    program.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
}

/// A line, as it is typed.
pub fn type_line(program: &mut Running, line: &str) {
    say(program, &format!("{line}\n"));
}

/// Panics unless the exit code is `code`, showing what was said.
pub fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Asks `condition` until it gives something; panics with `what` at the deadline.
pub fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {deadline:?}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// What a program wrote so far, collected by a thread so that it never blocks on us.
struct Collector {
    shared: Arc<(Mutex<Vec<u8>>, Condvar)>,
    pipe: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    fn start(stream: Option<impl Read + AsFd + Send + 'static>) -> Self {
        let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let theirs = Arc::clone(&shared);
        let pipe = stream.as_ref().map(|stream| stream.as_fd().try_clone_to_owned().unwrap());
        let thread = stream.map(|mut stream| {
            std::thread::spawn(move || {
                let mut buffer = [0; 65_536];
                loop {
                    // Not read before it is locked, so that nothing is neither here nor there.
                    let _ = poll(&mut [PollFd::new(&stream, PollFlags::IN)], None);
                    let mut bytes = theirs.0.lock().unwrap();
                    let Ok(len @ 1..) = stream.read(&mut buffer) else { return };
                    bytes.extend_from_slice(&buffer[..len]);
                    theirs.1.notify_all();
                }
            })
        });
        Self { shared, pipe, thread }
    }

    /// Everything that has been written when this is called.
    fn so_far(&self) -> Vec<u8> {
        let is_unread = |pipe: &OwnedFd| {
            let mut polled = [PollFd::new(pipe, PollFlags::IN)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::IN)
        };
        eventually("the output to be read", DEADLINE, || {
            let bytes = self.shared.0.lock().unwrap();
            let running = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
            let unread = running && self.pipe.as_ref().is_some_and(is_unread);
            (!unread).then(|| bytes.clone())
        })
    }

    /// Waits until `found` gives something; `None` at the deadline.
    fn wait<T>(&self, deadline: Duration, found: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let end = Instant::now() + deadline;
        let mut bytes = self.shared.0.lock().unwrap();
        loop {
            if let Some(found) = found(&bytes) {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now())?;
            // In short turns, so that the end of the stream, which notifies nobody, is seen too.
            let turn = left.min(Duration::from_millis(100));
            bytes = self.shared.1.wait_timeout(bytes, turn).unwrap().0;
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                return found(&bytes);
            }
        }
    }

    /// After the program's end: waits until everything is read.
    fn drain(&mut self, deadline: Duration) {
        let Some(thread) = self.thread.take() else { return };
        eventually("end of output", deadline, || thread.is_finished().then_some(()));
    }
}

/// A program that runs, with all that it wrote.
pub struct Running {
    child: Child,
    /// Its stdin, if that is a pipe and not closed yet.
    pub stdin: Option<ChildStdin>,
    out: Collector,
    err: Collector,
    status: Option<ExitStatus>,
}

impl Running {
    /// Starts `command` in a process group of its own, descriptors as they were set there.
    pub fn start(mut command: Command) -> Self {
        command.process_group(0);
        Self::start_in_our_group(command)
    }

    /// The same in the group of the test, for a program that makes a group of its own.
    pub fn start_in_our_group(mut command: Command) -> Self {
        heed_signals();
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot start {}: {error}", command.get_program().display())
        });
        let out = Collector::start(child.stdout.take());
        let err = Collector::start(child.stderr.take());
        let stdin = child.stdin.take();
        Self { child, stdin, out, err, status: None }
    }

    /// Writes all of `bytes` to stdin and closes it, without waiting for them to be read.
    pub fn feed(&mut self, bytes: Vec<u8>) {
        let Some(mut stdin) = self.stdin.take() else { return };
        // A program that ends before it read everything is a result, not a fault of the test.
        std::thread::spawn(move || drop(stdin.write_all(&bytes)));
    }

    /// Closes stdin.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// What it wrote to stdout until now, if that is a pipe; after [`Running::wait_exit`], all of
    /// it.
    pub fn stdout(&self) -> Vec<u8> {
        self.out.so_far()
    }

    /// What it wrote to stderr until now.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.err.so_far()).into_owned()
    }

    /// Waits until stdout is what `enough` wants.
    pub fn wait_stdout(&self, what: &str, enough: impl Fn(&[u8]) -> bool) {
        let found = self.out.wait(DEADLINE, |bytes| enough(bytes).then_some(()));
        let so_far = self.out.so_far();
        assert!(found.is_some(), "{what}: {}\n{}", String::from_utf8_lossy(&so_far), self.stderr());
    }

    /// Waits until a line on stderr contains `text`, and gives that line.
    pub fn wait_stderr(&self, text: &str) -> String {
        let complete_line = |bytes: &[u8]| {
            let said = String::from_utf8_lossy(bytes);
            let mut lines = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            lines.find(|line| line.contains(text)).map(|line| line.trim_end().to_owned())
        };
        self.err
            .wait(DEADLINE, complete_line)
            .unwrap_or_else(|| panic!("no {text:?} on stderr, but:\n{}", self.stderr()))
    }

    /// Waits for the end; a program that misses the deadline is killed and the test fails.
    pub fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let end = Instant::now() + deadline;
        while self.poll_exit().is_none() {
            if Instant::now() >= end {
                self.kill();
                panic!("still running after {deadline:?}; stderr:\n{}", self.stderr());
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        self.out.drain(DEADLINE);
        self.err.drain(DEADLINE);
        self.status.unwrap()
    }

    /// The exit status, if it has ended.
    pub fn poll_exit(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
        }
        self.status
    }

    /// The process id, for `/proc`.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, if it has not ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.poll_exit().is_none() {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }
    }

    /// Kills it and its children, as a crash or a power cut would.
    pub fn kill(&mut self) {
        if self.poll_exit().is_none() {
            // The group is still its own as long as it has not been waited for.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            self.status = self.child.wait().ok();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `ac-listen` that has said that it hears.
pub struct Listener {
    running: Running,
    port: u16,
}

impl Listener {
    /// Runs `ac-listen ARGS`, for example `-1 127.0.0.1:0`, and waits for its ready line.
    pub fn spawn(home: &Home, args: &[&str]) -> Self {
        Self::start(home.command("ac-listen", args))
    }

    /// The same for a command that was prepared further, or that leads to `ac-listen`.
    pub fn start(command: Command) -> Self {
        let running = Running::start(command);
        let line = running.wait_stderr("listening on ");
        let port = port_in_ready_line(&line).unwrap_or_else(|| panic!("no port in {line:?}"));
        Self { running, port }
    }

    /// The port of the first ready line.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `NAME@127.0.0.1:PORT`, to send to.
    pub fn destination(&self, name: &str) -> String {
        format!("{name}@127.0.0.1:{}", self.port)
    }
}

impl Deref for Listener {
    type Target = Running;
    fn deref(&self) -> &Running {
        &self.running
    }
}

impl DerefMut for Listener {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}

/// The port in `ac-listen: listening on ADDRESS:PORT (tcp)`, whatever follows.
pub fn port_in_ready_line(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("listening on ")?;
    let (address, transport) = rest.split_once(" (")?;
    if !(transport.starts_with("tcp)") || transport.starts_with("udp)")) {
        return None;
    }
    address.rsplit_once(':')?.1.parse().ok()
}

/// Whether the test can run: if `present` is false, it fails where `CI=true`, and says loudly
/// elsewhere that it is not run and why. `if !possible(…) { return; }`
pub fn possible(present: bool, what_to_do: &str) -> bool {
    if present {
        return true;
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} cannot run: {what_to_do}");
    // Past the capture of the test runner, which would show it for failures only.
    let _ = writeln!(std::io::stderr(), "\n*** NOT RUN: {test}: {what_to_do}\n");
    false
}

/// Whether `tool` is installed; see [`possible`].
pub fn need(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    possible(found, &format!("install {tool}"))
}
