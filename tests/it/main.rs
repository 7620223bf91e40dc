//! All that needs neither root nor other software: cores in virtual time, roles on loopback sockets, and
//! the program as a person or a script runs it.

#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod capture;
mod check;
mod client;
mod client_dhcp;
mod client_dns;
mod client_download;
mod client_transport;
mod compare;
mod config;
mod demo;
mod descriptors;
mod dhcp;
mod dns;
mod dns_actor;
mod download_page;
mod events;
mod exec;
mod experiments;
mod grafana;
mod http;
mod install;
mod link;
mod origin;
mod packets;
mod reload;
mod rudp;
mod schedules;
mod scrap;
mod service_manager;
mod shapes;
mod simulation;
mod stderr;
mod supervision;
mod told;
mod top;
mod transfers;
mod transport;
mod why;
