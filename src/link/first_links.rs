use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use crate::net::first_link;

/// What the first links towards the peers of a socket carry in one piece. They lie before the
/// simulated one: what they would refuse never gets onto that.
#[derive(Debug, Default)]
pub(super) struct FirstLinks(HashMap<Ends, u16>);

/// The peer, and the address that is sent from if that is chosen.
type Ends = (IpAddr, Option<IpAddr>);

/// So many are known at most.
const MOST: usize = 1024;

impl FirstLinks {
    /// Whether the kernel would refuse an unfragmented datagram with so large a payload. It is asked
    /// about what is larger than what it has let pass so far.
    pub(super) fn refuse(
        &mut self,
        payload: usize,
        remote: SocketAddr,
        local: Option<IpAddr>,
    ) -> bool {
        let ends = (remote.ip(), local);
        let fits = |most: u16| payload <= usize::from(most);
        if self.0.get(&ends).copied().is_some_and(fits) {
            return false;
        }
        // Where there is no way it is for the send itself to fail.
        let Some(most) = first_link::largest_payload(remote, local) else {
            return false;
        };
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(ends, most);
        !fits(most)
    }

    /// It has become narrower: the kernel is to be asked again.
    pub(super) fn forget(&mut self, remote: SocketAddr, local: Option<IpAddr>) {
        self.0.remove(&(remote.ip(), local));
    }
}
