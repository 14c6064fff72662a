//! From where a request may come: the name it asks for and the page it was made by.
//!
//! A server on loopback trusts who reaches it, and a web page in the user's own browser does. So a page of another site
//! must not be able to: its requests carry its `Origin` (or say `Sec-Fetch-Site: cross-site`), and when it has its own
//! name resolve to this machine (DNS rebinding) they ask for that name as `Host`. Both are looked at on every method of
//! REST, gRPC and pages alike: guards that forgot one method have been the hole elsewhere (CVE-2026-27482).

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::http::{HeaderMap, HeaderName, Method, Uri, header};
use domain::ErrorCode;

use super::problem::Problem;

static FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
static FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Names this server answers to.
#[derive(Debug, Clone)]
pub struct Names {
    listen: IpAddr,
    /// In lower case, with or without a port.
    allowed: Arc<[String]>,
}

impl Names {
    #[must_use]
    pub fn new(listen: SocketAddr, allowed: &[String]) -> Self {
        Self { listen: listen.ip(), allowed: allowed.into() }
    }

    /// Whether `authority` (`host` or `host:port`) means this server.
    fn mean(&self, authority: &str) -> bool {
        let authority = authority.to_ascii_lowercase();
        let host = host_of(&authority);
        let name = host.strip_suffix('.').unwrap_or(host);
        if name == "localhost" || name.ends_with(".localhost") {
            return true;
        }
        let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        ip.is_ok_and(|ip| ip.is_loopback() || (ip == self.listen && !ip.is_unspecified()))
            || self.allowed.iter().any(|known| *known == authority || *known == name)
    }

    /// Why a request is refused; `None` when it may pass.
    pub fn refusal(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Problem> {
        let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let deny = |what: String, hint: &str| Some(Problem::new(ErrorCode::PermissionDenied, what, hint));
        // HTTP/2 names the host in the address of the request.
        let asked = uri.authority().map(axum::http::uri::Authority::as_str).or_else(|| text(&header::HOST));
        let Some(asked) = asked else {
            return deny("the request names no host".into(), "send a Host header");
        };
        if !self.mean(asked) {
            let hint = "ask for localhost, or add the name to server.allowed_hosts";
            return deny(format!("{asked:?} is not a name of this server"), hint);
        }
        let hint =
            "call the API from a page of this server or from a program, or add the page's host to server.allowed_hosts";
        if let Some(origin) = text(&header::ORIGIN) {
            let host = origin.split_once("://").map_or("", |(_, host)| host);
            // The same machine is not enough: another port is another program.
            let own =
                host.eq_ignore_ascii_case(asked) || self.allowed.iter().any(|known| known.eq_ignore_ascii_case(host));
            if !own {
                return deny(format!("requests from pages of {origin:?} are not taken"), hint);
            }
        } else if text(&FETCH_SITE) == Some("cross-site") {
            // A link on another page may be followed: it only shows a page, and the other page cannot read it.
            let link = method == Method::GET && text(&FETCH_MODE) == Some("navigate");
            if !link {
                return deny("requests from pages of other sites are not taken".into(), hint);
            }
        }
        None
    }
}

/// The host without its port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: &str, headers: &[(&str, &str)]) -> Result<(), String> {
        let names =
            Names::new("127.0.0.1:8080".parse().unwrap(), &["ml.example.org".into(), "ui.example.org:8443".into()]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        match names.refusal(&method.parse().unwrap(), &"/api/v1/models".parse().unwrap(), &map) {
            None => Ok(()),
            Some(problem) => Err(problem.detail),
        }
    }

    #[test]
    fn loopback_names_and_allowed_ones_are_this_server() {
        for host in [
            "localhost",
            "localhost:8080",
            "LOCALHOST.:8080",
            "a.localhost",
            "127.0.0.1:8080",
            "127.8.9.1",
            "[::1]:9",
            "[::1]",
            "ml.example.org",
            "ML.example.org:443",
            "ui.example.org:8443",
        ] {
            assert_eq!(verdict("POST", &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn other_names_are_refused_whatever_they_resolve_to() {
        for host in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "0.0.0.0:8080",
            "2130706433",
            "169.254.169.254",
            "ui.example.org",
            "",
        ] {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"] {
                assert!(verdict(method, &[("host", host)]).is_err(), "{method} {host}");
            }
        }
        assert!(verdict("GET", &[]).is_err());
    }

    #[test]
    fn pages_of_other_sites_are_refused_on_every_method_and_our_own_are_not() {
        let host = ("host", "localhost:8080");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            for origin in ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:8080", "file://"]
            {
                assert!(verdict(method, &[host, ("origin", origin)]).is_err(), "{method} {origin}");
            }
            assert_eq!(verdict(method, &[host, ("origin", "http://localhost:8080")]), Ok(()));
            assert_eq!(verdict(method, &[host, ("origin", "https://ml.example.org")]), Ok(()));
            assert!(verdict(method, &[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]).is_err());
        }
        assert_eq!(verdict("GET", &[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]), Ok(()));
        assert!(verdict("POST", &[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]).is_err());
        assert_eq!(verdict("GET", &[host, ("sec-fetch-site", "same-origin")]), Ok(()));
    }
}
