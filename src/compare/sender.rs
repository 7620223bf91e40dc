//! Who sends in an experiment.

use std::fmt;

use super::exec::Exec;
use crate::rudp::congestion::Algorithm;

/// A transport and what controls its sending.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Sender {
    /// labnet's own transport: `cubic`, or `rudp-cubic`.
    Rudp(Algorithm),
    /// labnet's own transport, controlled by a program: `exec:./mine.py`.
    Exec(Exec),
    /// This kernel's TCP with the congestion control of this name: `tcp-reno`.
    Tcp(String),
    /// QUIC by quinn: `quic-cubic`.
    Quic(QuicControl),
}

/// A congestion controller that quinn has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QuicControl {
    /// RFC 9002's.
    NewReno,
    /// RFC 9438's.
    Cubic,
    /// The first version of BBR, which quinn calls experimental.
    Bbr,
}

impl QuicControl {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NewReno, Self::Cubic, Self::Bbr];

    /// Its name, as labnet's own of that name has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NewReno => "new_reno",
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }
}

/// What carries a sender's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// labnet's own.
    Rudp,
    /// The kernel's.
    Tcp,
    /// quinn's.
    Quic,
}

impl Transport {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rudp => "rudp",
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        }
    }
}

impl Sender {
    /// What carries it.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Rudp(_) | Self::Exec(_) => Transport::Rudp,
            Self::Tcp(_) => Transport::Tcp,
            Self::Quic(_) => Transport::Quic,
        }
    }

    /// A sender by its name.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let unknown = || {
            let own = Algorithm::ALL.map(Algorithm::name).join("`, `");
            let quic = QuicControl::ALL.map(|control| format!("quic-{}", control.name()));
            format!(
                "`{}` is no sender; there are `{own}`, `tcp-NAME` with a congestion control of this \
                 kernel, `exec:PROGRAM` with a controller of your own, and `{}`",
                text.escape_debug(),
                quic.join("`, `")
            )
        };
        if let Some(command) = text.strip_prefix("exec:") {
            let exec = Exec::parse(command);
            return exec
                .map(Self::Exec)
                .map_err(|problem| format!("`{}`: {problem}", text.escape_debug()));
        }
        let (transport, name) = text.split_once('-').unwrap_or(("rudp", text));
        match transport {
            "rudp" => name.parse().map(Self::Rudp).map_err(|_| unknown()),
            "quic" => QuicControl::ALL
                .into_iter()
                .find(|control| control.name() == name)
                .map(Self::Quic)
                .ok_or_else(unknown),
            // The kernel's longest name has 15 bytes (TCP_CA_NAME_MAX).
            "tcp" => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
                let fits = (1..16).contains(&name.len()) && name.bytes().all(plain);
                fits.then(|| Self::Tcp(name.to_owned())).ok_or_else(unknown)
            }
            _ => Err(unknown()),
        }
    }

    /// The sender that is to be put against labnet's own of this algorithm: TCP's and QUIC's of the
    /// same kind, if there may be one.
    pub fn rival(transport: Transport, algorithm: Algorithm) -> Option<Self> {
        match (transport, algorithm) {
            (Transport::Rudp, _) => None,
            (Transport::Tcp, Algorithm::NewReno) => Some(Self::Tcp("reno".to_owned())),
            (Transport::Tcp, Algorithm::Cubic) => Some(Self::Tcp("cubic".to_owned())),
            (Transport::Tcp, Algorithm::Bbr) => Some(Self::Tcp("bbr".to_owned())),
            // Few kernels have it loaded: who wants it names it, `tcp-vegas`.
            (Transport::Tcp, Algorithm::Vegas) => None,
            (Transport::Quic, Algorithm::NewReno) => Some(Self::Quic(QuicControl::NewReno)),
            (Transport::Quic, Algorithm::Cubic) => Some(Self::Quic(QuicControl::Cubic)),
            (Transport::Quic, Algorithm::Bbr) => Some(Self::Quic(QuicControl::Bbr)),
            (Transport::Quic, Algorithm::Vegas) => None,
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rudp(algorithm) => f.write_str(algorithm.name()),
            Self::Exec(exec) => write!(f, "exec:{}", exec.name()),
            Self::Tcp(name) => write!(f, "tcp-{name}"),
            Self::Quic(control) => write!(f, "quic-{}", control.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_s_name_is_read_back() {
        for name in ["cubic", "new_reno", "vegas", "bbr", "tcp-reno", "quic-bbr"] {
            let sender = Sender::parse(name).expect(name);
            assert_eq!(sender.to_string(), name);
        }
        assert_eq!(Sender::parse("rudp-bbr"), Ok(Sender::Rudp(Algorithm::Bbr)));
        let exec = Sender::parse("exec:/opt/mine-2.py --gain 2").expect("a program");
        assert_eq!(exec.to_string(), "exec:mine-2.py --gain 2");
        assert_eq!(exec.transport(), Transport::Rudp);
        Sender::parse("exec:").expect_err("no program");
        for wrong in [
            "",
            "reno",
            "quic-vegas",
            "tcp-",
            "tcp-a b",
            "udp-cubic",
            "tcp-0123456789abcdef",
        ] {
            let error = Sender::parse(wrong).expect_err(wrong);
            assert!(error.contains("there are `new_reno`"), "{error}");
        }
    }
}
