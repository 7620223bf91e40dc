//! The whole against the world: real clients and servers, network namespaces, disks, clocks, and crowds of
//! peers. What needs root or other software is `#[ignore = "needs ..."]`; `tests/run` installs it and runs
//! all of these one at a time, for they measure times, memory and processor use.

#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod capture;
mod client;
mod clock;
mod compare;
mod dhcp;
mod dns;
mod doctor;
mod grafana;
mod interfaces;
mod lab;
mod lan;
mod link;
mod log;
mod nat;
mod package;
mod page;
mod paths;
mod qlog;
mod report;
mod rudp;
mod scrap;
mod service_manager;
mod state;
mod stuck;
mod top;
mod transfers;
mod transport;
mod wireshark;
