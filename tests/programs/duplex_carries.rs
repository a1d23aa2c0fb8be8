//! What people carry over a duplex stream: the real rsync, git and ssh.

use crate::testkit::common;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use common::{DEADLINE, Home, Listener, Running, alice_and_bob, assert_code, need, program, run};

/// Two people; bob's listener runs a command for alice.
struct Pair {
    alice: Home,
    bob: Home,
}

impl Pair {
    fn new() -> Self {
        let (alice, bob) = alice_and_bob();
        Self { alice, bob }
    }

    fn listener(&self, command: &str) -> Listener {
        Listener::spawn(&self.bob, &["-e", command, "127.0.0.1:0"])
    }

    /// Runs a tool of alice's, who finds `ac-send` in her PATH.
    fn tool(&self, name: &str, args: &[&str], folder: &Path) -> Command {
        let mut command = Command::new(name);
        self.alice.at_home(command.args(args).current_dir(folder));
        let own = program("ac-send").parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([own].into_iter().chain(std::env::split_paths(&path)));
        command.env("PATH", path.unwrap());
        for (name, value) in [("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")] {
            command.env(name, value);
        }
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Alice");
            command.env(format!("GIT_{who}_EMAIL"), "alice@example.org");
        }
        command
    }

    fn run(&self, name: &str, args: &[&str], folder: &Path) -> Output {
        let output = run(self.tool(name, args, folder), b"", 2 * DEADLINE);
        assert_code(&output, 0);
        output
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A tree with a large file, an empty one, and names that need care.
fn tree(folder: &Path) -> PathBuf {
    let tree = folder.join("tree");
    std::fs::create_dir_all(tree.join("deep/er")).unwrap();
    let noise: Vec<u8> =
        (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(tree.join("large"), noise).unwrap();
    std::fs::write(tree.join("deep/empty"), b"").unwrap();
    std::fs::write(tree.join("deep/er/a name with 'quotes' and $dollars"), b"small\n").unwrap();
    tree
}

fn assert_same(one: &Path, other: &Path) {
    let difference = Command::new("diff").arg("-r").args([one, other]).output().unwrap();
    assert!(difference.status.success(), "{}", String::from_utf8_lossy(&difference.stdout));
}

#[test]
fn rsync_copies_a_tree_there_and_back() {
    if !need("rsync") {
        return;
    }
    let pair = Pair::new();
    let there = pair.bob.path().join("there");
    std::fs::create_dir(&there).unwrap();
    let config = pair.bob.path().join("rsyncd.conf");
    let user = if is_root() { "uid = 0\ngid = 0\n" } else { "" };
    let module =
        format!("use chroot = no\n{user}[files]\npath = {}\nread only = no\n", there.display());
    std::fs::write(&config, module).unwrap();
    let daemon = format!("rsync --server --daemon --config={} .", config.display());
    let listener = pair.listener(&daemon);
    let source = tree(pair.alice.path());
    let remote_shell = format!("sh -c 'exec ac-send -b $0@127.0.0.1:{}'", listener.port());
    let args = ["-a", "-e", &remote_shell, "tree/", "bob::files/copy/"];
    pair.run("rsync", &args, pair.alice.path());
    assert_same(&source, &there.join("copy"));

    // What is there already is not sent again.
    let again = ["-a", "--stats", "-e", &remote_shell, "tree/", "bob::files/copy/"];
    let output = pair.run("rsync", &again, pair.alice.path());
    let stats = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(stats.contains("Number of regular files transferred: 0"), "{stats}");

    let args = ["-a", "-e", &remote_shell, "bob::files/copy/", "back"];
    pair.run("rsync", &args, pair.alice.path());
    assert_same(&source, &pair.alice.path().join("back"));
}

#[test]
fn git_clones_and_pushes() {
    if !need("git") {
        return;
    }
    let pair = Pair::new();
    let served = pair.bob.path().join("served");
    std::fs::create_dir(&served).unwrap();
    pair.run("git", &["init", "--quiet", "--bare", "project.git"], &served);
    let daemon = format!(
        "git daemon --inetd --export-all --enable=receive-pack --base-path={}",
        served.display()
    );
    let listener = pair.listener(&daemon);
    let remote = format!("ext::ac-send -b {} %G/project.git", listener.destination("bob"));
    let git = |args: &[&str], folder: &Path| {
        let args = [&["-c", "protocol.ext.allow=always", "-c", "init.defaultBranch=main"], args];
        pair.run("git", &args.concat(), folder)
    };
    let home = pair.alice.path();
    let work = tree(home);
    git(&["init", "--quiet", "."], &work);
    git(&["add", "."], &work);
    git(&["commit", "--quiet", "-m", "A tree"], &work);
    git(&["push", "--quiet", &remote, "HEAD:refs/heads/main"], &work);
    git(&["clone", "--quiet", "--branch", "main", &remote, "clone"], home);
    let revision = |folder: &Path| git(&["rev-parse", "HEAD^{tree}"], folder).stdout;
    assert_eq!(revision(&work), revision(&home.join("clone")));
    git(&["fsck", "--no-progress"], &home.join("clone"));
}

/// A real sshd on loopback: one for each connection, which is its stdin and stdout.
struct SshServer {
    port: u16,
    /// Of the user who may log in.
    key: PathBuf,
}

impl SshServer {
    fn start(folder: &Path) -> Self {
        let keys = [folder.join("host"), folder.join("user")];
        for key in &keys {
            let mut make = Command::new("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key);
            assert!(make.status().unwrap().success());
        }
        if is_root() {
            // Where sshd looks for it before it gives up its rights.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let config = folder.join("sshd_config");
        let text = format!(
            "HostKey {0}/host\nAuthorizedKeysFile {0}/user.pub\nStrictModes no\nUsePAM no\n\
             PermitRootLogin yes\nPidFile none\nLogLevel ERROR\n",
            folder.display()
        );
        std::fs::write(&config, text).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut served: Vec<Child> = Vec::new();
            while let Ok((socket, _)) = listener.accept() {
                let socket = OwnedFd::from(socket);
                let mut sshd = Command::new("/usr/sbin/sshd");
                sshd.arg("-i").arg("-f").arg(&config);
                sshd.stdin(socket.try_clone().unwrap()).stdout(socket).stderr(Stdio::inherit());
                served.extend(sshd.spawn());
            }
        });
        let [_, key] = keys;
        Self { port, key }
    }
}

#[test]
fn ssh_logs_in_through_it() {
    if !(need("ssh")
        && need("socat")
        && common::possible(Path::new("/usr/sbin/sshd").is_file(), "install openssh-server"))
    {
        return;
    }
    let pair = Pair::new();
    let server = SshServer::start(pair.bob.path());
    let listener = pair.listener(&format!("socat - TCP:127.0.0.1:{}", server.port));
    let proxy = format!("ProxyCommand=ac-send -b {}", listener.destination("bob"));
    let known = format!("UserKnownHostsFile={}/known", pair.alice.path().display());
    let user = Command::new("id").arg("-un").output().unwrap().stdout;
    let login = format!("{}@bob", String::from_utf8(user).unwrap().trim());
    let key = server.key.to_str().unwrap();
    let options = [
        "-F",
        "none",
        "-i",
        key,
        "-o",
        &proxy,
        "-o",
        &known,
        "-o",
        "StrictHostKeyChecking=accept-new",
        "-o",
        "BatchMode=yes",
        &login,
    ];
    let ssh = |command: &str| {
        let args = [&options[..], &[command]].concat();
        pair.tool("ssh", &args, pair.alice.path())
    };
    let input: Vec<u8> = (0..2_000_000_u32).map(|n| (n.wrapping_mul(40_503) >> 8) as u8).collect();
    let output = run(ssh("cat"), &input, 2 * DEADLINE);
    assert_code(&output, 0);
    assert!(output.stdout == input);
    // The exit status of the far command is ssh's, and many at once do not disturb each other.
    let mut sessions: Vec<_> = (0..4).map(|n| Running::start(ssh(&format!("exit {n}")))).collect();
    for (n, session) in sessions.iter_mut().enumerate() {
        assert_eq!(session.wait_exit(2 * DEADLINE).code(), Some(n as i32), "{}", session.stderr());
    }
}
