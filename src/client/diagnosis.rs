//! Why a DHCP server of this machine is silent: its lab tells, over its HTTP endpoints.

use std::{collections::BTreeMap, env, net::SocketAddr, time::Duration};

use http_body_util::{BodyExt, Limited};
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use url::Url;

use super::http::Http;
use crate::{
    role::api::{Component, LeaseEntry, Status},
    text::{LONG, printable},
};

/// Where the lab's HTTP endpoints may be told to be, as for the verbs that ask a lab.
const VARIABLE: &str = "LABNET_URL";
/// Where they are otherwise.
const USUAL: &str = "http://127.0.0.1:9167/";
/// A lab on this machine answers within so long, or is not asked.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest answer that is read.
const MAX_ANSWER: usize = 16 << 20;

/// Why the DHCP server at `server`, a loopback address, does not answer; `None` if nobody knows.
pub(super) async fn of_dhcp(server: SocketAddr) -> Option<String> {
    let named = env::var(VARIABLE).ok();
    let beside = format!("http://{}/", SocketAddr::new(server.ip(), 9167));
    let mut elsewhere = None;
    for url in named.into_iter().chain([USUAL.to_owned(), beside]) {
        let Some(lab) = Url::parse(&url).ok().map(Lab) else {
            continue;
        };
        let Some(status) = lab.get::<Status>("/api/v1/status").await else {
            continue;
        };
        let dhcp = status.components.iter().find(|role| role.name == "dhcp");
        match dhcp {
            Some(dhcp) if listens(dhcp, server) => return lab.why_silent(dhcp).await,
            Some(dhcp) => {
                let at = printable(&dhcp.listens.join(", "), LONG);
                elsewhere.get_or_insert(format!("the lab at {url} has its DHCP at {at}: --dhcp"));
            }
            None => {}
        }
    }
    elsewhere
}

fn listens(dhcp: &Component, server: SocketAddr) -> bool {
    let port = server.port();
    let names = [format!("udp {server}"), format!("udp 0.0.0.0:{port}")];
    dhcp.listens.iter().any(|name| names.contains(name))
}

/// A running lab's HTTP endpoints.
struct Lab(Url);

impl Lab {
    async fn body(&self, path: &str) -> Option<Vec<u8>> {
        let http = Http {
            local: None,
            dns: None,
            patience: PATIENCE,
        };
        let url = self.0.join(path).ok()?;
        let asked = async {
            let mut answer = http.send(Method::GET, &url, &[]).await.ok()?;
            if answer.response.status() != StatusCode::OK {
                return None;
            }
            let body = Limited::new(answer.response.body_mut(), MAX_ANSWER);
            Some(body.collect().await.ok()?.to_bytes().to_vec())
        };
        timeout(PATIENCE, asked).await.ok().flatten()
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        serde_json::from_slice(&self.body(path).await?).ok()
    }

    async fn why_silent(&self, dhcp: &Component) -> Option<String> {
        if dhcp.state != "up" {
            let cause = dhcp.reasons.iter().chain(&dhcp.last_failure).next();
            let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
            return Some(printable(
                &format!("its role is {}{cause}", dhcp.state),
                LONG,
            ));
        }
        let metrics = String::from_utf8(self.body("/metrics").await?).ok()?;
        let refused = sample(
            &metrics,
            r#"labnet_dhcp_dropped_total{reason="no_address"}"#,
        )?;
        let mut pools = pools(&metrics);
        if refused == 0 || pools.is_empty() {
            return None;
        }
        for lease in self.get::<Vec<LeaseEntry>>("/api/v1/leases").await? {
            let held = ["bound", "offered", "declined"].contains(&lease.state.as_str());
            if let Some(free) = pools.get_mut(&lease.subnet)
                && held
                && !lease.reserved
            {
                free.1 += 1;
            }
        }
        // A subnet without a pool is for reserved clients alone.
        let reserved: Vec<String> = pools
            .iter()
            .filter(|(_, (size, _))| *size == 0)
            .map(|(subnet, _)| subnet.clone())
            .collect();
        pools.retain(|_, (size, _)| *size > 0);
        if pools.is_empty() {
            return Some(format!(
                "it has addresses for reserved clients only: {} has no `pools`. A [[dhcp.subnet.reservation]] gives \
                 this client's hardware address one (--mac says another), or go on with --no-dhcp",
                printable(&reserved.join(", "), LONG)
            ));
        }
        let is_full = pools.values().all(|(size, held)| held >= size);
        let said = pools.iter().map(|(subnet, (size, _))| {
            let addresses = if *size == 1 { "address" } else { "addresses" };
            format!("{size} {addresses} of {subnet}")
        });
        let said: Vec<String> = said.collect();
        is_full.then(|| {
            format!(
                "it has no free address: its pool is used up ({}). `labnet leases` shows by whom; `pools` can \
                 be larger, `lease_time` shorter, or go on with --no-dhcp",
                printable(&said.join(", "), LONG)
            )
        })
    }
}

/// A series of the metrics.
fn sample(metrics: &str, series: &str) -> Option<u64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

/// The size of each subnet's pool, and that nobody holds any of it yet.
fn pools(metrics: &str) -> BTreeMap<String, (u64, u64)> {
    let sizes = metrics.lines().filter_map(|line| {
        let line = line.strip_prefix("labnet_dhcp_pool_addresses{subnet=\"")?;
        let (subnet, size) = line.split_once("\"}")?;
        Some((subnet.to_owned(), (size.trim().parse().ok()?, 0)))
    });
    sizes.collect()
}
