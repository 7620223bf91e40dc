//! The units for systemd, looked at by systemd's own tools, and the Debian package in a fresh Debian, where
//! systemd runs the service.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use crate::support::wait_for;

/// At most so much may be exposed, by systemd's count from 0 to 10.
const EXPOSURE: f64 = 1.6;

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conf")
        .join(name)
}

fn analyze(arguments: &[&str], files: &[PathBuf]) -> (Output, String) {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .args(files)
        .env("NO_COLOR", "1")
        .output()
        .expect("systemd-analyze runs");
    let text = [&output.stdout[..], &output.stderr].concat();
    (output, String::from_utf8_lossy(&text).into_owned())
}

#[test]
#[ignore = "needs systemd"]
fn the_units_are_sound() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let names = ["labnet.service", "labnet.socket", "labnet-dhcp.socket"];
    let files = names.map(|name| {
        let text = fs::read_to_string(conf(name)).expect(name);
        // Where it will be installed there is nothing yet.
        let text = text.replace("/usr/bin/labnet", env!("CARGO_BIN_EXE_labnet"));
        let file = dir.path().join(name);
        fs::write(&file, text).expect("a file");
        file
    });
    let (output, text) = analyze(&["verify", "--man=no"], &files);
    assert!(output.status.success() && text.is_empty(), "{text}");
}

#[test]
#[ignore = "needs systemd"]
fn the_service_exposes_little() {
    let (_, text) = analyze(
        &["security", "--offline=true", "--no-pager"],
        &[conf("labnet.service")],
    );
    let level = text.rsplit_once("level for labnet.service: ");
    let level = level.and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
    assert!(level.is_some_and(|level| level <= EXPOSURE), "{text}");
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Packs the program of this test run as `version`, as CONTRIBUTING.md says it.
fn pack(version: &str, into: &Path) {
    let labnet = env!("CARGO_BIN_EXE_labnet");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let extras = manifest.join("target/package");
    let man = extras.join("man");
    run(labnet, &["man", "--out", man.to_str().expect("plain")]);
    for shell in ["bash", "zsh", "fish"] {
        let script = run(labnet, &["completions", shell]);
        fs::write(extras.join(format!("labnet.{shell}")), script).expect("a file");
    }
    // cargo-deb takes a release's program: here this one stands in its place.
    let target = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(target.path().join("release")).expect("a folder");
    fs::copy(labnet, target.path().join("release/labnet")).expect("a copy");
    let output = Command::new("cargo")
        .args([
            "deb",
            "--no-build",
            "--no-strip",
            "--fast",
            "--deb-version",
            version,
            "--output",
        ])
        .arg(into)
        .current_dir(manifest)
        .env("CARGO_TARGET_DIR", target.path())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{output:?}");
}

/// A fresh Debian, and systemd running in it if this machine lets it.
struct Debian {
    dir: tempfile::TempDir,
    booted: Option<(Child, u32)>,
}

impl Debian {
    fn install() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = dir.path().join("root");
        let root = root.to_str().expect("plain");
        run(
            "debootstrap",
            &[
                "--variant=minbase",
                "--include=systemd,systemd-sysv",
                "bookworm",
                root,
            ],
        );
        Self { dir, booted: None }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Starts systemd as its first process, with a network of its own.
    fn boot(&mut self) -> bool {
        let console = fs::File::create(self.dir.path().join("console")).expect("a file");
        let mut nspawn = Command::new("systemd-nspawn")
            .args([
                "--quiet",
                "--register=no",
                "--keep-unit",
                "--private-network",
                "--console=pipe",
            ])
            .args(["--boot", "--directory"])
            .arg(self.root())
            .stdin(Stdio::null())
            .stderr(console.try_clone().expect("a descriptor"))
            .stdout(console)
            .spawn()
            .expect("systemd-nspawn runs");
        let children = format!("/proc/{0}/task/{0}/children", nspawn.id());
        let first = wait_for("the first process", || {
            if nspawn.try_wait().expect("a child").is_some() {
                return Some(None);
            }
            let children = fs::read_to_string(&children).ok()?;
            let first: u32 = children.split_whitespace().next()?.parse().ok()?;
            let name = fs::read_to_string(format!("/proc/{first}/comm")).ok()?;
            (name.trim() == "systemd").then_some(Some(first))
        });
        let Some(first) = first else {
            return false;
        };
        self.booted = Some((nspawn, first));
        wait_for("systemd to be up", || {
            let state = self.try_run("systemctl is-system-running");
            let state = String::from_utf8_lossy(&state.stdout).into_owned();
            ["running", "degraded"]
                .contains(&state.trim())
                .then_some(())
        });
        true
    }

    fn try_run(&self, script: &str) -> Output {
        let mut command = match &self.booted {
            Some((_, first)) => {
                let mut command = Command::new("nsenter");
                command.args(["--target", &first.to_string()]);
                command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
                command.args(["--root", "--wd=/"]);
                command
            }
            None => {
                let mut command = Command::new("chroot");
                command.arg(self.root());
                command
            }
        };
        command
            .args(["bash", "-c", script])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C")
            .output()
            .expect("it runs")
    }

    /// What a script prints, which has to go well.
    #[track_caller]
    fn run(&self, script: &str) -> String {
        let output = self.try_run(script);
        if !output.status.success() && self.booted.is_some() {
            let log = self.try_run("journalctl --no-pager --lines=40; systemctl status labnet");
            eprintln!("{}", String::from_utf8_lossy(&log.stdout));
        }
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.root().join(path.trim_start_matches('/'))).is_ok()
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        if let Some((nspawn, first)) = &mut self.booted {
            // The end of its first process is the end of all of them, and of systemd-nspawn.
            let _ = Command::new("kill")
                .args(["-KILL", &first.to_string()])
                .status();
            let _ = nspawn.wait();
        }
    }
}

/// Asks DNS while the service stands still, kills it, and reads the answer of the next process.
const ASKED_MEANWHILE: &str = r#"
    exec 3<>/dev/udp/127.0.0.1/5300
    systemctl kill --kill-who=main --signal=STOP labnet
    printf '\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01' >&3
    systemctl kill --kill-who=main --signal=KILL labnet
    timeout 60 dd bs=512 count=1 <&3 2>/dev/null | od -An -tx1 -N2
"#;

#[test]
#[ignore = "needs root, debootstrap, cargo-deb and systemd-nspawn"]
fn the_package_installs_upgrades_and_goes_without_a_trace() {
    let mut debian = Debian::install();
    for (name, version) in [("old.deb", "0.1.0-1"), ("new.deb", "0.1.1-1")] {
        pack(version, &debian.root().join("root").join(name));
    }
    let booted = debian.boot();
    if !booted {
        eprintln!("systemd does not run in a container here: the package is tested without it");
    }
    let process = || debian.run("systemctl show --property=MainPID --value labnet");

    debian.run("dpkg --install /root/old.deb");
    for path in [
        "/usr/bin/labnet",
        "/etc/labnet/labnet.toml",
        "/etc/labnet/zones/example.com.zone",
        "/usr/share/man/man1/labnet-serve.1.gz",
        "/usr/share/bash-completion/completions/labnet",
        "/usr/share/doc/labnet/copyright",
        "/usr/share/doc/labnet/examples/labnet.lua",
        "/etc/systemd/system/multi-user.target.wants/labnet.service",
    ] {
        assert!(debian.has(path), "{path}");
    }
    let check = debian.run("labnet check /etc/labnet/labnet.toml");
    assert!(
        check.contains("state is kept in /var/lib/labnet/"),
        "{check}"
    );
    if booted {
        wait_for("the service to be up", || {
            (debian
                .try_run("systemctl is-active labnet")
                .status
                .success())
            .then_some(())
        });
        assert!(debian.has("/var/lib/private/labnet/state/leases.sqlite"));
        let user = debian.run("stat -c %u /proc/$(systemctl show -p MainPID --value labnet)");
        assert_ne!(user, "0");
        let kept = debian.run("systemctl show --property=NFileDescriptorStore --value labnet");
        assert!(kept.parse::<u32>().is_ok_and(|kept| kept >= 6), "{kept}");
        debian.run("systemctl reload labnet");
        let before = process();
        assert_eq!(debian.run(ASKED_MEANWHILE), "12 34");
        assert_ne!(process(), before);
        // A configuration that is refused is told, and changes nothing.
        debian.run(
            "cp /etc/labnet/labnet.toml /root/good && echo '[nonsense]' >>/etc/labnet/labnet.toml",
        );
        assert!(!debian.try_run("systemctl reload labnet").status.success());
        debian.run("mv /root/good /etc/labnet/labnet.toml && systemctl reload labnet");
    }

    // The administrator's changes live through an upgrade, which goes on with the same sockets.
    debian.run("echo '# mine' >>/etc/labnet/labnet.toml");
    let before = booted.then(process);
    debian.run("dpkg --install /root/new.deb");
    assert_eq!(debian.run("tail -n 1 /etc/labnet/labnet.toml"), "# mine");
    assert_eq!(
        debian.run("dpkg-query --show --showformat='${Version}' labnet"),
        "0.1.1-1"
    );
    if booted {
        debian.run("systemctl is-active labnet");
        assert_ne!(Some(process()), before, "the new program runs");
    }

    debian.run("dpkg --remove labnet");
    assert!(!debian.has("/usr/bin/labnet"));
    assert!(
        debian.has("/etc/labnet/labnet.toml"),
        "what was configured stays"
    );
    if booted {
        assert!(
            !debian
                .try_run("systemctl is-active labnet")
                .status
                .success()
        );
        assert!(debian.has("/var/lib/private/labnet"), "the leases stay");
    }
    debian.run("dpkg --purge labnet");
    for path in ["/etc/labnet", "/var/lib/labnet", "/var/lib/private/labnet"] {
        assert!(!debian.has(path), "{path}");
    }
    let left = debian.run(
        "find / -xdev -name '*labnet*' -not -path '/proc/*' -not -path '/var/lib/dpkg/*' \
         -not -path '/var/log/*'",
    );
    assert_eq!(left, "");
}
