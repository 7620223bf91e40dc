//! Single values out of text. Every error says what is wrong and what would be right.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use super::{AddressRange, Ipv4Network, MacAddress};

/// A year: longer times are mistakes, and would overflow sums of deadlines.
pub(super) const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) const SECOND: Duration = Duration::from_secs(1);
/// Times below this would keep a timer busy for nothing.
pub(super) const SHORTEST: Duration = Duration::from_millis(100);

/// The path of a file or a folder, a relative one counted from `base`.
pub(super) fn path(base: &Path, text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        Err("is no path; a file's or a folder's name is needed".into())
    } else {
        Ok(base.join(text))
    }
}

/// An address to listen on or to ask: an IP address and a port, no group of hosts.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let Ok(address) = text.parse::<SocketAddr>() else {
        return Err(if text.parse::<IpAddr>().is_ok() {
            format!("`{text}` lacks a port; write it as `127.0.0.1:9167` or `[::1]:9167`")
        } else {
            format!(
                "`{text}` is no IP address with a port; write it as `127.0.0.1:9167` or \
                 `[::1]:9167`"
            )
        });
    };
    let group = match address.ip() {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    if group {
        Err(format!(
            "`{text}` is an address of many hosts; one host's address is needed"
        ))
    } else {
        Ok(address)
    }
}

/// A host's name as HTTP requests give it, without a port; lower case, without a final dot.
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let fits = (1..=253).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if fits {
        Ok(name.to_ascii_lowercase())
    } else {
        Err(format!(
            "`{}` is no host's name; write it as `lab.example`, without a port",
            text.escape_debug()
        ))
    }
}

/// One host's IPv4 address.
pub(super) fn host(text: &str) -> Result<Ipv4Addr, String> {
    let address = ipv4(text)?;
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
        return Err(format!("`{text}` is not the address of one host"));
    }
    Ok(address)
}

fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is no IPv4 address; four numbers of 0 to 255 are needed, as `10.20.30.1`")
    })
}

/// A network in CIDR notation that can hold hosts: /8 to /30 of unicast addresses.
pub(super) fn network(text: &str) -> Result<Ipv4Network, String> {
    let wrong = || format!("`{text}` is no subnet; write it as `10.20.30.0/24`");
    let (address, prefix_len) = text.split_once('/').ok_or_else(wrong)?;
    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
    let prefix_len: u8 = prefix_len.parse().map_err(|_| wrong())?;
    if !(8..=30).contains(&prefix_len) {
        return Err(format!(
            "`/{prefix_len}` is no size for a subnet of hosts; /8 to /30 are"
        ));
    }
    let mask = Ipv4Network {
        address,
        prefix_len,
    }
    .mask();
    let network = Ipv4Network {
        address: address & mask,
        prefix_len,
    };
    if network.address != address {
        return Err(format!(
            "`{text}` is a host's address; its subnet is `{network}`"
        ));
    }
    if !(1..=223).contains(&address.octets()[0]) {
        return Err(format!(
            "`{text}` holds no addresses for hosts; those are 1.0.0.0 to 223.255.255.255"
        ));
    }
    Ok(network)
}

/// `FIRST-LAST`, or one address.
pub(super) fn range(text: &str) -> Result<AddressRange, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let wrong =
        |_| format!("`{text}` is no range of addresses; write it as `10.20.30.41-10.20.30.100`");
    let first: Ipv4Addr = first.trim().parse().map_err(wrong)?;
    let last: Ipv4Addr = last.trim().parse().map_err(wrong)?;
    if first > last {
        return Err(format!(
            "`{text}` goes backwards; write it as `{last}-{first}`"
        ));
    }
    Ok(AddressRange { first, last })
}

/// One host's Ethernet address, its bytes separated by colons or dashes.
pub(super) fn mac(text: &str) -> Result<MacAddress, String> {
    let wrong =
        || format!("`{text}` is no hardware address; six bytes are needed, as `02:00:00:00:00:07`");
    let mut bytes = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut bytes {
        let part = parts
            .next()
            .filter(|part| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .ok_or_else(wrong)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    if parts.next().is_some() {
        return Err(wrong());
    }
    // IEEE 802: the lowest bit of the first byte marks a group address.
    if bytes[0] & 1 == 1 || bytes == [0; 6] {
        return Err(format!("`{text}` is not the address of one network card"));
    }
    Ok(MacAddress(bytes))
}

/// A humane duration within `allowed`.
pub(super) fn duration(text: &str, allowed: RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| format!("`{text}` is no duration; write it as `30s`, `10m` or `24h`"))?;
    if allowed.contains(&duration) {
        Ok(duration)
    } else {
        Err(format!(
            "`{text}` is out of bounds; {} to {} are allowed",
            bound(*allowed.start()),
            bound(*allowed.end()),
        ))
    }
}

/// A bound in one unit; humantime's years and months are fractions of a day off.
fn bound(duration: Duration) -> String {
    const DAY: u64 = 24 * 3600;
    match (duration.subsec_millis(), duration.as_secs()) {
        (0, seconds) if seconds % DAY == 0 => format!("{}days", seconds / DAY),
        (0, seconds) => format!("{seconds}s"),
        _ => format!("{}ms", duration.as_millis()),
    }
}

/// A whole number within `allowed`.
pub(super) fn number<T: TryFrom<i64> + PartialOrd + std::fmt::Display>(
    number: i64,
    allowed: &RangeInclusive<T>,
) -> Result<T, String> {
    T::try_from(number)
        .ok()
        .filter(|number| allowed.contains(number))
        .ok_or_else(|| {
            format!(
                "{number} is out of bounds; {} to {} are allowed",
                allowed.start(),
                allowed.end()
            )
        })
}

/// A humane size between `least` and `most` bytes.
pub(crate) fn bytes(text: &str, (least, most): (u64, u64)) -> Result<u64, String> {
    let units = [
        ("kib", 1024.0),
        ("mib", 1_048_576.0),
        ("gib", 1_073_741_824.0),
        ("kb", 1e3),
        ("mb", 1e6),
        ("gb", 1e9),
        ("b", 1.0),
        ("", 1.0),
    ];
    with_unit(&text.to_ascii_lowercase(), &units, most as f64)
        .filter(|bytes| *bytes >= least)
        .ok_or_else(|| {
            let from = match least {
                0 => String::new(),
                least => format!("from {} ", size_bound(least)),
            };
            format!(
                "`{}` is no size {from}up to {}; write it as `625kB` or `1500B`",
                text.escape_debug(),
                size_bound(most),
            )
        })
}

/// A bound in the largest unit that is exact.
fn size_bound(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let exact = units
        .iter()
        .find(|(bits, _)| bytes.trailing_zeros() >= *bits);
    match exact {
        Some((bits, unit)) => format!("{}{unit}", bytes >> bits),
        None => format!("{bytes}B"),
    }
}

/// A number followed by the first of `units` that fits, in the units' base.
pub(super) fn with_unit(text: &str, units: &[(&str, f64)], most: f64) -> Option<u64> {
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    let number: f64 = number.trim_end().parse().ok()?;
    let value = (number * factor).round();
    // Not negative, and small enough for every digit to be true.
    (0.0..=most).contains(&value).then_some(value as u64)
}

/// A host's or a domain's name (RFC 1123 section 2.1), without its final dot.
pub(super) fn domain(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    check_labels(text, name, |byte| {
        byte.is_ascii_alphanumeric() || byte == b'-'
    })?;
    Ok(name.to_owned())
}

/// A zone's name, absolute and in lower case. `_` is for services (RFC 2782), `/` for parts of a
/// reverse zone (RFC 2317).
pub(super) fn zone_name(text: &str) -> Result<String, String> {
    if text == "." {
        return Ok(text.into());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    check_labels(text, name, |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/')
    })?;
    Ok(format!("{}.", name.to_ascii_lowercase()))
}

fn check_labels(text: &str, name: &str, allowed: impl Fn(u8) -> bool) -> Result<(), String> {
    let shown = text.escape_debug();
    if name.len() > 253 {
        return Err("is longer than a domain name's 253 characters".into());
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err(format!(
                "`{shown}` is no domain name; write it as `example.com.`"
            ));
        }
        if label.len() > 63 {
            return Err(format!(
                "`{}` is longer than a label's 63 characters",
                label.escape_debug()
            ));
        }
        if !label.bytes().all(&allowed) || label.starts_with('-') || label.ends_with('-') {
            return Err(format!(
                "`{shown}` is no domain name; its parts are of letters, digits and inner dashes"
            ));
        }
    }
    Ok(())
}

/// A network interface's name (Linux: IFNAMSIZ).
pub(super) fn interface(text: &str) -> Result<String, String> {
    let fits = (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':'));
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{}` is no interface's name; 1 to 15 characters are, as `eth0`",
            text.escape_debug()
        ))
    }
}

/// A congestion control of the kernel's TCP, by its name. Whether the kernel has it, only it knows.
pub(super) fn tcp_congestion(text: &str) -> Result<String, String> {
    // TCP_CA_NAME_MAX (include/net/tcp.h) is 16, with the zero at the end.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=15).contains(&text.len()) && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{}` is no congestion control's name; `sysctl net.ipv4.tcp_available_congestion_control` \
             lists this kernel's, as `cubic`",
            text.escape_debug()
        ))
    }
}

/// A page that plain HTTP can fetch.
pub(super) fn page(text: &str) -> Result<Url, String> {
    let shown = text.escape_debug();
    let url = Url::parse(text)
        .map_err(|error| format!("`{shown}`: {error}; write it as `http://127.0.0.1:8080/`"))?;
    if url.scheme() != "http" {
        return Err(format!(
            "`{shown}`: `{}` is not spoken here; only `http` is",
            url.scheme()
        ));
    }
    if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
        return Err(format!("`{shown}` names no server"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "`{shown}` holds a user's name; the page must be readable without"
        ));
    }
    if url.fragment().is_some() {
        return Err(format!(
            "`{shown}` names a part of a page; leave out what follows `#`"
        ));
    }
    Ok(url)
}

/// The largest sample: what ZIP holds without its 64-bit extension.
const MAX_SAMPLE: u64 = 4_000_000_000;

/// The name of a file that the origin makes up: `NUMBER(kB|MB|GB).zip`, `*.png` or `*.pdf`.
pub(super) fn sample(text: &str) -> Result<String, String> {
    let shown = text.escape_debug();
    let wrong = || {
        format!("`{shown}` is no sample; write it as `50MB.zip`, `image-site.png` or `task2.pdf`")
    };
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if !plain || text.starts_with('.') || text.len() > 100 {
        return Err(wrong());
    }
    let (stem, kind) = text.rsplit_once('.').ok_or_else(wrong)?;
    match kind {
        "png" | "pdf" => Ok(text.to_owned()),
        "zip" => {
            let digits = stem.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = stem.split_at(digits);
            let unit: u64 = match unit {
                "kB" => 1_000,
                "MB" => 1_000_000,
                "GB" => 1_000_000_000,
                _ => return Err(wrong()),
            };
            let number: u64 = number.parse().map_err(|_| wrong())?;
            match number.checked_mul(unit) {
                Some(1..=MAX_SAMPLE) => Ok(text.to_owned()),
                _ => Err(format!("`{shown}` is no size; 1kB to 4GB are allowed")),
            }
        }
        _ => Err(wrong()),
    }
}
