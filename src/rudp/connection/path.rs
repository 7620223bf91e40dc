//! The way to the peer: its address, and all that was learned about the network between.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{config::Config, delivery::Estimator, mtu::MtuDiscovery, pacing::Pacer, rtt::Rtt};
use crate::rudp::{
    congestion::{Congestion, Controllers, Start},
    packet::MAX_AMPLIFICATION,
};

/// The largest datagram that every path is taken to carry, UDP payload bytes (RFC 9000 section 14).
pub(super) const BASE: u16 = 1200;

/// How often a challenge is repeated before the path is given up.
const CHALLENGES: u32 = 3;

/// One path.
#[derive(Debug)]
pub(super) struct Path {
    /// Tells the packets of this path from those of others.
    pub(super) generation: u32,
    pub(super) remote: SocketAddr,
    /// Our address that the peer writes to.
    pub(super) local: Option<IpAddr>,
    /// The peer has shown that it receives at `remote`.
    pub(super) proof: Proof,
    pub(super) rtt: Rtt,
    pub(super) congestion: Box<dyn Congestion>,
    pub(super) pacer: Pacer,
    pub(super) mtu: MtuDiscovery,
    pub(super) estimator: Estimator,
    pub(super) in_flight: u64,
    /// The sender had too little to send, last time it looked.
    pub(super) app_limited: bool,
    /// Congestion marks don't get through, as was found (RFC 9000 section 13.4.2).
    pub(super) ecn_failed: bool,
}

/// Whether the peer is where it seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    Given,
    /// Until it answers this challenge, it gets no more than three times what came from there
    /// (RFC 9000 section 8).
    Asked {
        challenge: u64,
        asked: u32,
        /// The challenge is to be sent (again) at this time.
        again_at: Instant,
        received: u64,
        sent: u64,
    },
}

impl Path {
    pub(super) fn new(
        generation: u32,
        remote: SocketAddr,
        local: Option<IpAddr>,
        proof: Proof,
        learned: &Learned<'_>,
        now: Instant,
    ) -> Self {
        let mtu = MtuDiscovery::new(BASE, learned.max_datagram);
        let mut rtt = Rtt::new();
        if let Some(sample) = learned.rtt {
            rtt.update(sample, Duration::ZERO, false, Duration::ZERO, now);
        }
        let congestion = learned.controllers.start(&Start {
            now,
            mtu: u64::from(mtu.current()),
            rtt: learned.rtt,
            initial_window: learned.config.initial_window,
            seed: learned.seed,
        });
        let mut path = Self {
            generation,
            remote,
            local,
            proof,
            rtt,
            congestion,
            pacer: Pacer::new(now, u64::from(mtu.current())),
            mtu,
            estimator: Estimator::new(now),
            in_flight: 0,
            app_limited: true,
            ecn_failed: false,
        };
        path.pace();
        path
    }

    /// The peer is at this address of the same host, and has proven it before.
    pub(super) fn return_to(&mut self, remote: SocketAddr, local: Option<IpAddr>) {
        self.remote = remote;
        self.local = local;
        self.proof = Proof::Given;
    }

    /// Is controlled from now on by another one, which knows of nothing that is in flight.
    pub(super) fn control(&mut self, controllers: &dyn Controllers, start: &Start) {
        self.congestion = controllers.start(start);
        self.pace();
    }

    /// Tells the pacer what the congestion controller wants.
    pub(super) fn pace(&mut self) {
        self.pacer.update(
            self.congestion.window(),
            self.rtt.smoothed().min(self.rtt.latest()),
            self.rtt.min(),
            self.congestion.pacing_rate(),
            self.congestion.in_slow_start(),
            u64::from(self.mtu.current()),
        );
    }

    /// Takes a datagram size that the path was found to carry.
    pub(super) fn set_mtu(&mut self, mtu: u16) {
        self.congestion.on_mtu(u64::from(mtu));
        self.pace();
    }

    /// How many bytes may be sent here while the peer has not proven its address.
    pub(super) fn allowance(&self) -> u64 {
        match self.proof {
            Proof::Given => u64::MAX,
            Proof::Asked { received, sent, .. } => received
                .saturating_mul(MAX_AMPLIFICATION as u64)
                .saturating_sub(sent),
        }
    }

    pub(super) fn on_datagram_sent(&mut self, bytes: u64) {
        if let Proof::Asked { sent, .. } = &mut self.proof {
            *sent += bytes;
        }
    }

    pub(super) fn on_datagram_received(&mut self, bytes: u64) {
        if let Proof::Asked { received, .. } = &mut self.proof {
            *received += bytes;
        }
    }

    /// The challenge that is due, if one is.
    pub(super) fn challenge_due(&self, now: Instant) -> Option<u64> {
        match self.proof {
            Proof::Asked {
                challenge,
                again_at,
                asked,
                ..
            } if again_at <= now && asked < CHALLENGES => Some(challenge),
            _ => None,
        }
    }

    /// Notes that the challenge was sent.
    pub(super) fn challenge_sent(&mut self, now: Instant, patience: Duration) {
        if let Proof::Asked {
            asked, again_at, ..
        } = &mut self.proof
        {
            *asked += 1;
            *again_at = now + patience;
        }
    }

    /// Whether it is clear that nobody answers there.
    pub(super) fn is_given_up(&self, now: Instant) -> bool {
        matches!(self.proof, Proof::Asked { asked, again_at, .. }
            if asked >= CHALLENGES && again_at <= now)
    }

    /// When the challenge is sent again, or given up.
    pub(super) fn timeout(&self) -> Option<Instant> {
        match self.proof {
            Proof::Given => None,
            Proof::Asked { again_at, .. } => Some(again_at),
        }
    }
}

/// What a new path starts with.
pub(super) struct Learned<'a> {
    pub(super) config: &'a Config,
    pub(super) controllers: &'a dyn Controllers,
    /// The largest datagram that both sides take.
    pub(super) max_datagram: u16,
    pub(super) rtt: Option<Duration>,
    pub(super) seed: u64,
}
