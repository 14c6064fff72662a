//! Where a message may go: public addresses only, unless the settings say otherwise. Whoever can register a webhook
//! could else make this server talk to what only it can reach.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    time::Duration,
};

use url::{Host, Url};

use crate::RegistryError;

/// Longest URL, in bytes.
const URL_BYTES_MAX: usize = 2_048;
/// How long a name is looked up when a webhook is registered.
const LOOK_UP: Duration = Duration::from_secs(3);

/// A URL that a webhook may have, in the form that is sent to: hosts such as `0x7f.1` and `2130706433` are read as the
/// addresses they are.
pub(super) fn lawful(text: &str, allow_private: bool) -> Result<Url, RegistryError> {
    let refuse = |problem: &str, hint| {
        let shown: String = text.chars().take(80).collect();
        Err(RegistryError::invalid(format!("webhook URL {shown:?}"), problem, hint))
    };
    if text.len() > URL_BYTES_MAX {
        return refuse("is longer than 2048 bytes", "shorten it");
    }
    let Ok(url) = Url::parse(text.trim()) else {
        return refuse("cannot be read", "write it as in `https://example.com/hook`");
    };
    match url.scheme() {
        "https" => {}
        "http" if allow_private => {}
        _ => return refuse("is not https", "use https; plain http needs `webhooks.allow_private = true`"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("holds a name or password", "URLs are shown; give a secret and verify the signature instead");
    }
    if url.fragment().is_some() {
        return refuse("has a fragment", "leave out what stands after `#`");
    }
    let private = "use a public address, or set `webhooks.allow_private = true`";
    let public = match url.host() {
        None => return refuse("has no host", "write it as in `https://example.com/hook`"),
        Some(Host::Ipv4(ip)) => is_public(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => is_public(IpAddr::V6(ip)),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            !(name == "localhost" || name.ends_with(".localhost"))
        }
    };
    if !public && !allow_private {
        return refuse("leads to an address that is not public", private);
    }
    Ok(url)
}

/// The same, and the name is looked up: one that leads to a private address is refused. One that is not known now is
/// let through, since each message looks again.
pub(super) async fn check(text: &str, allow_private: bool) -> Result<Url, RegistryError> {
    let url = lawful(text, allow_private)?;
    let (Some(Host::Domain(name)), false) = (url.host(), allow_private) else { return Ok(url) };
    let at = (name.to_owned(), url.port_or_known_default().unwrap_or_default());
    // The system's resolver waits; it may not hold up others.
    let looked = tokio::task::spawn_blocking(move || at.to_socket_addrs().map(Iterator::collect::<Vec<_>>));
    let found = match tokio::time::timeout(LOOK_UP, looked).await {
        Ok(Ok(Ok(found))) => found,
        _ => return Ok(url),
    };
    if all_public(&found) {
        return Ok(url);
    }
    let hint = "use a public address, or set `webhooks.allow_private = true`";
    Err(RegistryError::invalid(format!("webhook URL {text:?}"), "leads to an address that is not public", hint))
}

/// One that is not public spoils them all: it would be a matter of luck which is used.
pub(super) fn all_public(addresses: &[SocketAddr]) -> bool {
    addresses.iter().all(|address| is_public(address.ip()))
}

/// Whether an address is one of the open internet (IANA's special-purpose registries, RFC 6890 and later).
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => public_v4(ip),
        IpAddr::V6(ip) => public_v6(ip),
    }
}

fn public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        // This network; shared address space; protocol assignments; 6to4 relays; benchmarks; reserved and broadcast.
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240;
    !special
}

fn public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    if let Some(ip) = inner_v4(ip) {
        return public_v4(ip);
    }
    // Of global unicast, without protocol assignments (Teredo among them) and documentation.
    (0x2000..0x4000).contains(&s[0])
        && !(s[0] == 0x2001 && s[1] < 0x200)
        && !(s[0] == 0x2001 && s[1] == 0xdb8)
        && !(s[0] == 0x3fff && s[1] < 0x1000)
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, NAT64 or 6to4.
fn inner_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => Some(of(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_open_internet_are_public() {
        for ip in [
            "1.1.1.1",
            "93.184.216.34",
            "100.63.255.255",
            "172.32.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "127.255.255.254",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "100.64.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2002:a00:1::",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "100::1",
            "3fff::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn a_url_is_public_https_however_its_host_is_written() {
        for url in ["https://example.com/hook?x=1", "https://1.1.1.1:8443/", "https://[2606:4700::1111]/"] {
            assert!(lawful(url, false).is_ok(), "{url}");
        }
        for url in [
            "http://example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "example.com",
            "https://",
            "",
            "https://user:pass@example.com/",
            "https://example.com/#x",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://10.0.0.8/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://a.localhost/",
            "https://127.0.0.1./",
            "https://０x7f.1/",
        ] {
            assert!(lawful(url, false).is_err(), "{url}");
        }
        for url in ["http://127.0.0.1:9/x", "https://localhost/", "http://receiver.internal/"] {
            assert!(lawful(url, true).is_ok(), "{url}");
        }
        assert!(lawful("ftp://127.0.0.1/", true).is_err());
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_refused_when_it_is_registered() {
        // What the system calls itself leads to a loopback address where it is known at all.
        let own = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let names = own.lines().filter(|line| line.starts_with("127.") || line.starts_with("::1"));
        let names = names.flat_map(|line| line.split_whitespace().skip(1)).filter(|name| !name.starts_with("ip6-all"));
        let mut tried = 0;
        for name in names.filter(|name| !name.starts_with('#')) {
            assert!(check(&format!("https://{name}/"), false).await.is_err(), "{name}");
            tried += 1;
        }
        assert!(tried > 0, "every system knows `localhost`");
    }
}
