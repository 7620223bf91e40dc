//! Who may ask for what.
//!
//! The lab's HTTP endpoints are for its own machine and its own network. Three kinds of strangers
//! are kept out: pages of other sites in a browser here, which reach loopback by a name of theirs
//! that they point at it (DNS rebinding: `Host` is that name), or by a plain request of theirs
//! (`Origin`, `Sec-Fetch-Site`); peers that are not on loopback; and peers of a reverse proxy that
//! is (its header fields say so, and whatever these claim makes nobody a local).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use axum::response::{IntoResponse, Response};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri,
    header::{AUTHORIZATION, FORWARDED, HOST, ORIGIN, VIA, WWW_AUTHENTICATE},
};

use super::{problem, token::Token};
use crate::config::host_name;

/// The rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Names that a `Host` may be besides `localhost` and IP addresses; lower case, no final dot.
    pub hosts: Vec<String>,
    /// Whoever has it may change the lab from anywhere; others may not, wherever they are.
    pub token: Option<Token>,
    /// Whether reading needs the token, too.
    pub protect_reads: bool,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Not one `Host` field: so many.
    HostFields(usize),
    /// A `Host` that is none.
    HostSyntax,
    /// A name that is not the lab's.
    OtherHost(String),
    /// A page of another site asks.
    OtherSite,
    /// The peer is somewhere else, and there is no token that would help.
    NotHere,
    /// Somebody asks through a reverse proxy, and there is no token that would help.
    Proxied,
    /// The token is needed; whether a wrong one was given.
    Token {
        /// Whether a wrong one was given.
        wrong: bool,
    },
}

impl Access {
    /// Whether a request may be answered.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        peer: IpAddr,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Refused> {
        let host = self.host(uri, headers)?;
        let changes = !method.is_safe();
        match &self.token {
            Some(token) if changes || self.protect_reads => bearer(token, headers),
            None if changes => only_from_here(peer, host, headers),
            _ => Ok(()),
        }
    }

    /// The `Host` field, which has to be there once and to be an address or a name of the lab. So has
    /// the target's, if it names one (RFC 9112 section 3.2.2: it counts then).
    fn host<'a>(&self, uri: &Uri, headers: &'a HeaderMap) -> Result<&'a str, Refused> {
        let mut fields = headers.get_all(HOST).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else {
            return Err(Refused::HostFields(headers.get_all(HOST).iter().count()));
        };
        let field = field.to_str().map_err(|_| Refused::HostSyntax)?;
        let target = uri.authority().map(http::uri::Authority::as_str);
        for named in [Some(field), target].into_iter().flatten() {
            match name(named).ok_or(Refused::HostSyntax)? {
                Name::Address => {}
                Name::Domain(name) if name == "localhost" || self.hosts.contains(&name) => {}
                Name::Domain(name) => return Err(Refused::OtherHost(name)),
            }
        }
        Ok(field)
    }
}

/// Without a token a change is for this machine's own users.
fn only_from_here(peer: IpAddr, host: &str, headers: &HeaderMap) -> Result<(), Refused> {
    if !peer.to_canonical().is_loopback() {
        return Err(Refused::NotHere);
    }
    let proxied = headers.keys().any(|name| {
        name == FORWARDED
            || name == VIA
            || name.as_str() == "x-real-ip"
            || name.as_str().starts_with("x-forwarded")
    });
    if proxied {
        return Err(Refused::Proxied);
    }
    // A browser says both of itself, and no page can make it lie.
    let all = |name: &str, right: &dyn Fn(&str) -> bool| {
        let mut fields = headers.get_all(name).iter();
        fields.all(|field| field.to_str().is_ok_and(right))
    };
    let own_origin = |origin: &str| {
        let named = origin.strip_prefix("http://");
        named.is_some_and(|named| named.eq_ignore_ascii_case(host))
    };
    let own_site = |site: &str| site == "same-origin" || site == "none";
    if !all(ORIGIN.as_str(), &own_origin) || !all("sec-fetch-site", &own_site) {
        return Err(Refused::OtherSite);
    }
    Ok(())
}

fn bearer(token: &Token, headers: &HeaderMap) -> Result<(), Refused> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else {
        return Err(Refused::Token { wrong: false });
    };
    let given = field.as_bytes().split_at_checked("Bearer ".len());
    match given {
        Some((scheme, given))
            if scheme.eq_ignore_ascii_case(b"Bearer ")
                && fields.next().is_none()
                && token.is(given.trim_ascii()) =>
        {
            Ok(())
        }
        _ => Err(Refused::Token { wrong: true }),
    }
}

enum Name {
    Address,
    Domain(String),
}

/// Takes `host[:port]` apart (RFC 3986 section 3.2); any port will do.
fn name(text: &str) -> Option<Name> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (None, rest)
        }
        None => match text.find(':') {
            Some(colon) => (Some(&text[..colon]), &text[colon..]),
            None => (Some(text), ""),
        },
    };
    let port = match port {
        "" => "",
        port => port.strip_prefix(':')?,
    };
    if !port.is_empty()
        && (!port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err())
    {
        return None;
    }
    let Some(host) = host else {
        return Some(Name::Address);
    };
    if host.parse::<Ipv4Addr>().is_ok() {
        return Some(Name::Address);
    }
    host_name(host).ok().map(Name::Domain)
}

impl Refused {
    /// Its status code.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::HostFields(_) | Self::HostSyntax => StatusCode::BAD_REQUEST,
            Self::OtherHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::OtherSite | Self::NotHere | Self::Proxied => StatusCode::FORBIDDEN,
            Self::Token { .. } => StatusCode::UNAUTHORIZED,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostFields(0) => f.write_str("the request has no Host field; it needs one"),
            Self::HostFields(n) => write!(f, "the request has {n} Host fields; it needs one"),
            Self::HostSyntax => {
                f.write_str("Host is neither an address nor a name, with or without a port")
            }
            Self::OtherHost(name) => write!(
                f,
                "`{name}` is no name of this lab: ask by IP address or as localhost, or add the \
                 name to `hosts` in [http]"
            ),
            Self::OtherSite => f.write_str("this changes the lab and is not for other sites"),
            Self::NotHere => f.write_str(
                "this changes the lab and is answered on the loopback interface only; from \
                 elsewhere it needs the token of `token_file` in [http], which is not set",
            ),
            Self::Proxied => f.write_str(
                "this changes the lab and was forwarded by a proxy; from there it needs the token \
                 of `token_file` in [http], which is not set",
            ),
            Self::Token { wrong: false } => f.write_str(
                "this needs the lab's token: send `Authorization: Bearer TOKEN`, or give the \
                 command `--token-file FILE`",
            ),
            Self::Token { wrong: true } => {
                f.write_str("this is not the lab's token: its `token_file` holds another")
            }
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = problem(self.status(), &self.to_string());
        if let Self::Token { wrong } = self {
            let challenge = if wrong {
                "Bearer realm=\"labnet\", error=\"invalid_token\""
            } else {
                "Bearer realm=\"labnet\""
            };
            let challenge = HeaderValue::from_static(challenge);
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const HERE: &str = "127.0.0.1";
    const THERE: &str = "192.0.2.7";
    const TOKEN: &str = "correct-horse-battery-staple";

    fn asks(
        access: &Access,
        peer: &str,
        method: &str,
        headers: &[(&str, &str)],
    ) -> Result<(), Refused> {
        let mut request = Request::builder().method(method).uri("/-/reload");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (request, ()) = request.body(()).expect("a request").into_parts();
        let peer = peer.parse().expect("an address");
        access.check(peer, &request.method, &request.uri, &request.headers)
    }

    fn hosted(host: &str) -> Result<(), Refused> {
        let access = Access {
            hosts: vec!["lab.example".to_owned()],
            ..Access::default()
        };
        let read = asks(&access, THERE, "GET", &[("host", host)]);
        assert_eq!(
            asks(&access, HERE, "POST", &[("host", host)]),
            read,
            "{host}"
        );
        read
    }

    #[test]
    fn a_host_is_an_address_or_a_name_of_the_lab() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9167",
            "10.20.30.40:1",
            "0.0.0.0:9167",
            "[::1]",
            "[::1]:9167",
            "[2001:db8::1]:80",
            "localhost",
            "localhost:8000",
            "LOCALHOST:8000",
            "localhost.",
            "lab.example",
            "Lab.Example.:65535",
            "127.0.0.1:",
        ] {
            assert_eq!(hosted(host), Ok(()), "{host}");
        }
        for host in [
            "evil.test",
            "evil.test:9167",
            "127.0.0.1.evil.test",
            "localhost.evil.test",
            "lab.example.evil.test",
            "evil-lab.example",
            "2130706433",
            "127.1",
            "0x7f.0.0.1",
        ] {
            let refused = hosted(host).expect_err(host);
            assert_eq!(refused.status(), StatusCode::MISDIRECTED_REQUEST, "{host}");
        }
        for host in [
            "",
            ":9167",
            "me@127.0.0.1",
            "127.0.0.1:x",
            "127.0.0.1:65536",
            "127.0.0.1:+1",
            "::1",
            "[::1",
            "[::1]x",
            "[localhost]",
            "a b",
            "a/b",
            "localhost, evil.test",
        ] {
            let refused = hosted(host).expect_err(host);
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{host}");
        }
    }

    #[test]
    fn there_is_one_host_field() {
        let access = Access::default();
        assert_eq!(asks(&access, HERE, "GET", &[]), Err(Refused::HostFields(0)));
        let twice = [("host", "127.0.0.1"), ("host", "127.0.0.1")];
        assert_eq!(
            asks(&access, HERE, "GET", &twice),
            Err(Refused::HostFields(2))
        );
        // The target's name counts, too.
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("127.0.0.1"))]);
        let uri = Uri::from_static("http://evil.test/metrics");
        let refused = access.check(HERE.parse().expect("one"), &Method::GET, &uri, &headers);
        assert_eq!(refused, Err(Refused::OtherHost("evil.test".to_owned())));
    }

    #[test]
    fn without_a_token_changes_are_for_whoever_is_here() {
        let access = Access::default();
        let host = ("host", "127.0.0.1:9167");
        let change = |peer: &str, more: &[(&str, &str)]| {
            let headers = [&[host], more].concat();
            assert_eq!(asks(&access, peer, "GET", &headers), Ok(()));
            let changed = asks(&access, peer, "POST", &headers);
            assert_eq!(asks(&access, peer, "PUT", &headers), changed);
            changed
        };
        assert_eq!(change(HERE, &[]), Ok(()));
        assert_eq!(change("::1", &[]), Ok(()));
        assert_eq!(change("::ffff:127.0.0.1", &[]), Ok(()));
        assert_eq!(change(THERE, &[]), Err(Refused::NotHere));
        assert_eq!(change("2001:db8::1", &[]), Err(Refused::NotHere));
        let same = ("origin", "http://127.0.0.1:9167");
        assert_eq!(change(HERE, &[same]), Ok(()));
        assert_eq!(
            change(HERE, &[same, ("sec-fetch-site", "same-origin")]),
            Ok(())
        );
        for strange in [
            ("origin", "http://evil.test:9167"),
            ("origin", "http://127.0.0.1:3000"),
            ("origin", "https://127.0.0.1:9167"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(change(HERE, &[strange]), Err(Refused::OtherSite));
            assert_eq!(change(HERE, &[same, strange]), Err(Refused::OtherSite));
        }
        for proxied in [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "127.0.0.1:9167"),
            ("forwarded", "for=127.0.0.1"),
            ("x-real-ip", "127.0.0.1"),
            ("via", "1.1 front"),
        ] {
            assert_eq!(change(HERE, &[proxied]), Err(Refused::Proxied));
            assert_eq!(change(THERE, &[proxied]), Err(Refused::NotHere));
        }
    }

    #[test]
    fn with_a_token_it_opens_from_anywhere_and_nothing_else_does() {
        let mut access = Access {
            token: Some(Token::new(TOKEN)),
            ..Access::default()
        };
        for protect_reads in [false, true] {
            access.protect_reads = protect_reads;
            for peer in [HERE, THERE] {
                let ask = |method: &str, given: &[&str]| {
                    let mut headers = vec![("host", "10.20.30.40")];
                    headers.extend(given.iter().map(|given| ("authorization", *given)));
                    asks(&access, peer, method, &headers)
                };
                let right = format!("Bearer {TOKEN}");
                let missing = Err(Refused::Token { wrong: false });
                let wrong = Err(Refused::Token { wrong: true });
                for method in ["POST", "PUT", "DELETE", "GET"] {
                    if method == "GET" && !protect_reads {
                        assert_eq!(ask(method, &[]), Ok(()));
                        continue;
                    }
                    assert_eq!(ask(method, &[&right]), Ok(()));
                    assert_eq!(ask(method, &[&format!("bearer  {TOKEN}")]), Ok(()));
                    assert_eq!(ask(method, &[]), missing);
                    for given in [
                        "Bearer ",
                        "Bearer",
                        "",
                        TOKEN,
                        &right[..right.len() - 1],
                        &format!("{right}x"),
                        &format!("Basic {TOKEN}"),
                    ] {
                        assert_eq!(ask(method, &[given]), wrong, "{given}");
                    }
                    assert_eq!(ask(method, &[&right, &right]), wrong);
                }
            }
        }
    }

    #[test]
    fn a_refusal_for_want_of_a_token_says_how() {
        let response = Refused::Token { wrong: false }.into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            response.headers()[WWW_AUTHENTICATE],
            "Bearer realm=\"labnet\""
        );
    }
}
