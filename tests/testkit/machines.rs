//! Two machines on one cable, made of network namespaces: Alice is 10.0.0.1, Bob is 10.0.0.5. The
//! cable can lose packets and can be pulled. Each [`Network`] has namespaces of its own, so tests
//! may run at once, and takes them away at its end, a panic included.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use super::common::{Home, need, possible, program};

/// The interface at either end of the cable.
pub const LINK: &str = "cable";

/// One machine, with programs to be started in it.
pub struct Machine {
    namespace: String,
}

/// Alice's and Bob's machines. Declare it before what runs in it, so that it is dropped after.
pub struct Network {
    /// At 10.0.0.1.
    pub alice: Machine,
    /// At 10.0.0.5.
    pub bob: Machine,
}

impl Network {
    /// Builds it, or says that the test is not run because that takes root and `ip`.
    pub fn new() -> Option<Self> {
        let root = rustix::process::geteuid().is_root();
        if !(possible(root, "run it as root, for network namespaces") && need("ip")) {
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let machine =
            |who| Machine { namespace: format!("ac-{}-{count}-{who}", std::process::id()) };
        // Dropped, and so removed, wherever building fails.
        let network = Self { alice: machine("alice"), bob: machine("bob") };
        network.build();
        Some(network)
    }

    fn build(&self) {
        let (alice, bob) = (&self.alice.namespace, &self.bob.namespace);
        must(&["ip", "netns", "add", alice]);
        must(&["ip", "netns", "add", bob]);
        must(&[
            "ip", "link", "add", LINK, "netns", alice, "type", "veth", "peer", "name", LINK,
            "netns", bob,
        ]);
        for (namespace, address) in [(alice, "10.0.0.1/24"), (bob, "10.0.0.5/24")] {
            must(&["ip", "-n", namespace, "address", "add", address, "dev", LINK]);
            must(&["ip", "-n", namespace, "link", "set", LINK, "up"]);
            must(&["ip", "-n", namespace, "link", "set", "lo", "up"]);
        }
    }

    /// From now on each packet is lost with this probability, in each direction. False, and said
    /// so, if this machine has nothing that can do it.
    pub fn lose(&self, percent: u8) -> bool {
        [&self.alice, &self.bob].iter().all(|machine| machine.lose(percent))
    }

    /// Pulls the cable: nothing passes any more, and nobody is told.
    pub fn cut(&self) {
        must(&["ip", "-n", &self.bob.namespace, "link", "set", LINK, "down"]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for machine in [&self.alice, &self.bob] {
            // A namespace that was not made cannot be removed; nothing to do about that.
            let _ = Command::new("ip").args(["netns", "delete", &machine.namespace]).output();
        }
    }
}

/// Alice, two routers, and Bob: 10.0.1.1 and fd00:1::1, 10.0.3.1 and fd00:3::1. Between the routers
/// fits less than elsewhere. Declare it before what runs in it.
pub struct Narrow {
    /// At 10.0.1.1.
    pub alice: Machine,
    /// At 10.0.3.1.
    pub bob: Machine,
    /// Next to Alice, and next to Bob.
    pub routers: [Machine; 2],
}

impl Narrow {
    /// As [`Network::new`]; `mtu` is what fits between the routers, in bytes.
    pub fn new(mtu: u32) -> Option<Self> {
        let root = rustix::process::geteuid().is_root();
        if !(possible(root, "run it as root, for network namespaces") && need("ip")) {
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let machine =
            |who| Machine { namespace: format!("ac-{}-n{number}-{who}", std::process::id()) };
        // Dropped, and so removed, wherever building fails.
        let routers = [machine("left"), machine("right")];
        let narrow = Self { alice: machine("alice"), bob: machine("bob"), routers };
        narrow.build(mtu);
        Some(narrow)
    }

    /// Nobody knows any more what the path takes.
    pub fn forget_paths(&self) {
        for machine in self.machines() {
            for family in ["-4", "-6"] {
                must(&["ip", "-n", &machine.namespace, family, "route", "flush", "cache"]);
            }
        }
    }

    fn machines(&self) -> [&Machine; 4] {
        [&self.alice, &self.routers[0], &self.routers[1], &self.bob]
    }

    fn build(&self, mtu: u32) {
        let names = self.machines().map(|machine| machine.namespace.as_str());
        for name in names {
            must(&["ip", "netns", "add", name]);
            let settings = "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
                echo 1 > /proc/sys/net/ipv4/ip_forward
                echo 1 > /proc/sys/net/ipv6/conf/all/forwarding || :";
            must(&["ip", "netns", "exec", name, "sh", "-c", settings]);
            must(&["ip", "-n", name, "link", "set", "lo", "up"]);
        }
        for (n, ends) in (1..).zip(names.windows(2)) {
            let (left, right) = (ends[0], ends[1]);
            must(&[
                "ip", "link", "add", "right", "netns", left, "type", "veth", "peer", "name",
                "left", "netns", right,
            ]);
            let mtu = if n == 2 { mtu } else { 1500 }.to_string();
            // The near end of each cable has the lower number, but at Bob's.
            let (near, far) = if n == 3 { (2, 1) } else { (1, 2) };
            for (name, side, last) in [(left, "right", near), (right, "left", far)] {
                must(&["ip", "-n", name, "link", "set", side, "mtu", &mtu, "up"]);
                let (v4, v6) = (format!("10.0.{n}.{last}/24"), format!("fd00:{n}::{last}/64"));
                must(&["ip", "-n", name, "address", "add", &v4, "dev", side]);
                // IPv6 is not to be had on a link that takes less than 1280 bytes.
                let _ = Command::new("ip")
                    .args(["-n", name, "address", "add", &v6, "dev", side])
                    .output();
            }
        }
        let vias = [(0, 1, 2), (1, 2, 2), (2, 2, 1), (3, 3, 2)];
        for (machine, net, last) in vias {
            let (v4, v6) = (format!("10.0.{net}.{last}"), format!("fd00:{net}::{last}"));
            must(&["ip", "-n", names[machine], "route", "add", "default", "via", &v4]);
            let _ = Command::new("ip")
                .args(["-n", names[machine], "route", "add", "default", "via", &v6])
                .output();
        }
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        for machine in self.machines() {
            let _ = Command::new("ip").args(["netns", "delete", &machine.namespace]).output();
        }
    }
}

/// Several machines on one switch: 10.0.0.1, 10.0.0.2 and so on, with IPv6 as the system makes it.
/// Declare it before what runs in it.
pub struct Lan {
    switch: Machine,
    /// In the order of their addresses.
    pub hosts: Vec<Machine>,
}

impl Lan {
    /// As [`Network::new`].
    pub fn new(count: usize) -> Option<Self> {
        let root = rustix::process::geteuid().is_root();
        if !(possible(root, "run it as root, for network namespaces") && need("ip")) {
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let machine = |who: String| Machine {
            namespace: format!("ac-{}-l{number}-{who}", std::process::id()),
        };
        let hosts = (0..count).map(|n| machine(n.to_string())).collect();
        // Dropped, and so removed, wherever building fails.
        let lan = Self { switch: machine("switch".into()), hosts };
        lan.build();
        Some(lan)
    }

    fn build(&self) {
        let switch = &self.switch.namespace;
        must(&["ip", "netns", "add", switch]);
        must(&["ip", "-n", switch, "link", "add", "switch", "type", "bridge"]);
        must(&["ip", "-n", switch, "link", "set", "switch", "up"]);
        for (n, host) in self.hosts.iter().enumerate() {
            let (namespace, port) = (&host.namespace, format!("port{n}"));
            must(&["ip", "netns", "add", namespace]);
            // Link-local addresses are of use at once.
            let no_dad = "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad || :";
            must(&["ip", "netns", "exec", namespace, "sh", "-c", no_dad]);
            must(&[
                "ip", "link", "add", LINK, "netns", namespace, "type", "veth", "peer", "name",
                &port, "netns", switch,
            ]);
            must(&["ip", "-n", switch, "link", "set", &port, "master", "switch", "up"]);
            must(&["ip", "-n", namespace, "link", "set", "lo", "up"]);
            host.plug_in(n);
        }
    }
}

impl Lan {
    /// From now on nothing longer passes, in bytes.
    pub fn narrow(&self, mtu: u32) {
        let mtu = mtu.to_string();
        for (n, host) in self.hosts.iter().enumerate() {
            let port = format!("port{n}");
            must(&["ip", "-n", &self.switch.namespace, "link", "set", &port, "mtu", &mtu]);
            must(&["ip", "-n", &host.namespace, "link", "set", LINK, "mtu", &mtu]);
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for machine in self.hosts.iter().chain([&self.switch]) {
            let _ = Command::new("ip").args(["netns", "delete", &machine.namespace]).output();
        }
    }
}

impl Machine {
    /// Takes the machine off the network: its interface goes down, and loses its addresses.
    pub fn unplug(&self) {
        must(&["ip", "-n", &self.namespace, "address", "flush", "dev", LINK]);
        must(&["ip", "-n", &self.namespace, "link", "set", LINK, "down"]);
    }

    /// Takes its IPv4 addresses away.
    pub fn drop_ipv4(&self) {
        must(&["ip", "-n", &self.namespace, "-4", "address", "flush", "dev", LINK]);
    }

    /// Gives it this IPv4 address instead of its own; what it hears from elsewhere, it hears.
    pub fn move_to(&self, address: &str) {
        self.drop_ipv4();
        must(&["ip", "-n", &self.namespace, "address", "add", address, "dev", LINK]);
        let no_filter = "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done";
        must(&["ip", "netns", "exec", &self.namespace, "sh", "-c", no_filter]);
    }

    /// Host number `n` of a [`Lan`] is back, at its address.
    pub fn plug_in(&self, n: usize) {
        let address = format!("10.0.0.{}/24", n + 1);
        must(&[
            "ip",
            "-n",
            &self.namespace,
            "address",
            "add",
            &address,
            "broadcast",
            "10.0.0.255",
            "dev",
            LINK,
        ]);
        must(&["ip", "-n", &self.namespace, "link", "set", LINK, "up"]);
    }

    /// A Python script, run on this machine.
    pub fn python(&self, script: &str, args: &[&str]) -> Command {
        let mut command = self.enter();
        command.args(["python3", "-c", script]).args(args);
        command.stdin(std::process::Stdio::piped());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command
    }

    /// A program of this crate, run by `home` on this machine.
    pub fn command(&self, home: &Home, name: &str, args: &[&str]) -> Command {
        let mut command = self.enter();
        command.arg(program(name)).args(args);
        home.at_home(&mut command);
        command
    }

    /// A line as typed into a shell by `home` on this machine, our programs on its `PATH`.
    pub fn shell(&self, home: &Home, line: &str) -> Command {
        let mut command = self.enter();
        command.args(["sh", "-c", line]);
        home.at_home(&mut command);
        let mut path = vec![program("ac-send").parent().map(Into::into).unwrap_or_default()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        command.env("PATH", std::env::join_paths(path).unwrap_or_default());
        command
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]);
        command
    }

    /// From now on the machine tells nobody of packets that it cannot pass on. False, and said so, if
    /// this machine has nothing that can do it.
    pub fn is_mute(&self) -> bool {
        let rule = ["iptables", "-w", "-A", "OUTPUT", "-p", "icmp", "-j", "DROP"];
        possible(self.run(&rule).is_some(), "install iptables")
    }

    /// From now on the machine lets no program of its own send by UDP. False, and said so, if this
    /// machine has nothing that can do it.
    pub fn forbids_udp(&self) -> bool {
        let rule = ["iptables", "-w", "-A", "OUTPUT", "-p", "udp", "-j", "DROP"];
        possible(self.run(&rule).is_some(), "install iptables")
    }

    fn run(&self, words: &[&str]) -> Option<Output> {
        self.enter().args(words).output().ok().filter(|output| output.status.success())
    }

    /// With iptables where its statistic module is there, else with nft.
    pub fn lose(&self, percent: u8) -> bool {
        let probability = format!("{}", f64::from(percent) / 100.0);
        let rule = [
            "iptables",
            "-w",
            "-A",
            "INPUT",
            "-i",
            LINK,
            "-m",
            "statistic",
            "--mode",
            "random",
            "--probability",
            &probability,
            "-j",
            "DROP",
        ];
        let script = format!(
            "add table inet loss
             add chain inet loss input {{ type filter hook input priority 0; }}
             add rule inet loss input iifname {LINK} numgen random mod 100 < {percent} counter drop"
        );
        let done = self.run(&rule).or_else(|| self.run(&["nft", &script]));
        possible(done.is_some(), "install iptables or nftables, and their kernel modules")
    }

    /// How many packets for this machine were lost so far.
    pub fn lost(&self) -> u64 {
        let table = self.run(&["iptables", "-w", "-nvxL", "INPUT"]).map(|output| output.stdout);
        let table = String::from_utf8_lossy(&table.unwrap_or_default()).into_owned();
        let rule = table.lines().find(|line| line.contains("DROP") && line.contains(LINK));
        if let Some(count) = rule.and_then(|line| line.split_whitespace().next()?.parse().ok()) {
            return count;
        }
        let rules = self.run(&["nft", "list", "table", "inet", "loss"]).map(|output| output.stdout);
        let rules = String::from_utf8_lossy(&rules.unwrap_or_default()).into_owned();
        let after = rules.split_once("counter packets ").map_or("", |(_, after)| after);
        after.split_whitespace().next().and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

fn must(words: &[&str]) {
    match Command::new(words[0]).args(&words[1..]).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("{words:?}: {error}"),
    }
}
