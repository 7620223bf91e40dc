//! The RUDP signals: sessions by the letter of the protocol, two cores over a bad network in
//! virtual time, the endpoint on the loopback; and what the proxy does with a connection's streams.

mod endpoint;
mod network;
mod proxy;
mod requester;
mod serve;
mod session;
mod shares;
