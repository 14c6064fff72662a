//! Pages, health, and what every answer carries.

use crate::{SERVER, page, support::sensors::ENDPOINT};

/// Addresses that a page fetches by itself: `src` of anything, `href` of `<link>`.
fn fetched(html: &str) -> Vec<String> {
    let attribute = |tag: &str, name: &str| {
        let rest = tag.split_once(&format!(" {name}=\""))?.1;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let tags = html.split('<').skip(1).filter_map(|rest| rest.split_once('>').map(|(tag, _)| tag.replace('\n', " ")));
    tags.filter_map(|tag| {
        attribute(&tag, "src").or_else(|| if tag.starts_with("link") { attribute(&tag, "href") } else { None })
    })
    .collect()
}

/// Fetches a page and all that it fetches; returns everything as one text.
fn page_with_parts(path: &str) -> String {
    let first = page(path);
    assert_eq!((first.status, first.header("content-type").starts_with("text/html")), (200, true), "{path}");
    let parts = fetched(&first.text);
    assert!(
        parts.iter().any(|part| part.ends_with(".js")) && parts.iter().any(|part| part.ends_with(".css")),
        "{parts:?}"
    );
    let mut all = first.text;
    for part in parts.iter().filter(|part| !part.starts_with("data:")) {
        assert!(!part.contains("//"), "{path} fetches {part} from elsewhere");
        let local = part.trim_start_matches("./");
        let from = if local.starts_with('/') { local.to_owned() } else { format!("{path}{local}") };
        let found = page(&from);
        let kind = found.header("content-type").to_owned();
        let wanted = if from.ends_with(".js") {
            "javascript"
        } else if from.ends_with(".css") {
            "text/css"
        } else {
            "image/"
        };
        assert!(found.status == 200 && kind.contains(wanted), "{from}: {} {kind}", found.status);
        assert!(
            !from.ends_with(".css") || !found.text.contains("url(http") && !found.text.contains("@import"),
            "{from}"
        );
        all.push_str(&found.text);
    }
    all
}

#[test]
fn the_documentation_is_browsed_without_the_internet() {
    let all = page_with_parts("/docs/");
    assert!(all.contains("/openapi.json"), "it shows this server's document");
    assert!(page("/docs").text.contains("swagger-ui"), "without the slash it is found too");
}

#[test]
fn the_console_is_served_with_its_style_and_its_script() {
    let all = page_with_parts("/");
    assert!(all.contains("<title>Millpond</title>") && all.contains("/api/v1/overview"), "it shows the loop");
    let overview = SERVER.get("/api/v1/overview").ok();
    assert!(overview.to_string().contains(ENDPOINT), "{overview}");
}

#[test]
fn every_answer_tells_the_browser_to_stay_here() {
    for path in ["/", "/console.js", "/docs/", "/openapi.json", "/healthz", "/api/v1/models", "/api/v1/nothing"] {
        let answer = page(path);
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(!policy.contains("http"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
    }
    let refused = page("/api/v1/runs/nobody");
    assert_eq!((refused.status, refused.header("content-type")), (400, "application/problem+json"));
}

#[test]
fn a_request_keeps_the_id_it_came_with() {
    let named = SERVER.page("GET", "/healthz", &[("x-request-id", "morning-7")]);
    assert_eq!(named.header("x-request-id"), "morning-7");
    let (one, other) = (page("/healthz"), page("/healthz"));
    assert!(one.header("x-request-id").len() >= 16);
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"), "those without get one of their own");
    for bad in ["has a space", "x\"y", &"long".repeat(40)] {
        let answer = SERVER.page("GET", "/healthz", &[("x-request-id", bad)]);
        assert_ne!(answer.header("x-request-id"), bad, "what could spoil a log line is not taken over");
        assert!(!answer.header("x-request-id").is_empty());
    }
    let lost = SERVER.page("GET", "/nowhere", &[("x-request-id", "lost-1")]);
    assert_eq!((lost.status, lost.header("x-request-id")), (404, "lost-1"));
}

#[test]
fn a_live_server_says_so() {
    for (path, said) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let answer = page(path);
        assert_eq!((answer.status, answer.text.as_str()), (200, said));
        assert_eq!(SERVER.page("DELETE", path, &[]).status, 405);
    }
}
