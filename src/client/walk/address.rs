//! The walk's first step and its last: an address by DHCP, and its return.

use std::{io, pin::pin};

use tokio::sync::Notify;

use super::{Dhcp, Observer, Waits, Walk, Way};
use crate::client::{
    Patience,
    adopt::Adopted,
    dhcp::ClientLease,
    diagnosis,
    failure::WalkError,
    lease::{self, Leased},
    udp::{self, SocketError},
};

/// So many messages a DHCP server may leave unanswered before a cause is looked for.
const DHCP_TRIES: u32 = 2;

impl Walk {
    pub(super) async fn lease(
        &mut self,
        dhcp: &Dhcp,
        observer: &mut dyn Observer,
    ) -> Result<Leased, WalkError> {
        let server = dhcp.server;
        let patience = Patience::with(server);
        observer.asks(server, patience);
        let silent = Notify::new();
        let mut again = |time| {
            if time > DHCP_TRIES {
                silent.notify_one();
            }
        };
        let identity = dhcp.identity.clone();
        let interface = dhcp.interface.as_deref();
        let seed = self.plan.seed;
        let obtaining = lease::obtain(server, interface, identity, patience, seed, &mut again);
        let why = async {
            silent.notified().await;
            match server.ip().is_loopback() {
                true => diagnosis::of_dhcp(server).await,
                false => None,
            }
        };
        let mut obtaining = pin!(obtaining);
        let leased = tokio::select! {
            leased = obtaining.as_mut() => leased,
            why = why => {
                if let Some(why) = why {
                    return Err(WalkError::NoAddress { server, why });
                }
                observer.waits(Waits::Address(server));
                obtaining.await
            }
        };
        let leased = leased.map_err(|error| WalkError::Lease { server, error })?;
        // Whatever fails from here on: it is given back at the end.
        self.leased = Some(leased.clone());
        // Known before anything else is sent: whether it can be sent from here at all.
        let address = leased.lease.address.into();
        if let Some(interface) = interface {
            let adopted = self.adopt(interface, &leased.lease);
            adopted.map_err(|error| WalkError::Unusable {
                server,
                address,
                error: SocketError::Bind {
                    address,
                    error,
                    foreign: false,
                },
            })?;
        }
        if let Err(error) = udp::connect(Some(address), server).await
            && matches!(error, SocketError::Bind { .. })
        {
            return Err(WalkError::Unusable {
                server,
                address,
                error,
            });
        }
        Ok(leased)
    }

    /// Has the interface take the leased address on.
    fn adopt(&mut self, interface: &str, lease: &ClientLease) -> io::Result<()> {
        let adopted = match self.adopted.take() {
            Some(before) if before.is(interface, lease) => before,
            before => {
                before.map_or(Ok(()), Adopted::give_up)?;
                Adopted::new(interface, lease)
            }
        };
        self.adopted.insert(adopted).add()
    }

    /// Gives the address back, if there is one that shall not be kept.
    pub(super) async fn give_back(&mut self) {
        let (leased, adopted) = (self.leased.take(), self.adopted.take());
        let Way::Network {
            dhcp: Some(dhcp), ..
        } = &self.plan.way
        else {
            return;
        };
        if dhcp.keep_lease {
            return;
        }
        if let Some(Leased { lease, .. }) = leased {
            let seed = self.plan.seed.wrapping_add(1);
            let server = match &dhcp.interface {
                // The one of those that heard the broadcast.
                Some(_) => (lease.server, dhcp.server.port()).into(),
                None => dhcp.server,
            };
            let released = lease::release(server, &dhcp.identity, &lease, seed);
            if let Err(error) = released.await {
                tracing::warn!(%error, "the address was not given back");
            }
        }
        if let Some(Err(error)) = adopted.map(Adopted::give_up) {
            tracing::warn!(%error, "the address stays on the interface");
        }
    }
}
