//! The token and the project that a request names.

use access::{BadSecret, Secret};
use axum::http::{HeaderMap, HeaderName, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use domain::ProjectName;

/// Names the project, for callers to whom several are open. The second is how MLflow's clients call it.
static PROJECT: [HeaderName; 2] =
    [HeaderName::from_static("x-millpond-project"), HeaderName::from_static("x-mlflow-workspace")];

/// Longest `Authorization` header that is looked at.
const LONGEST: usize = 4_096;

/// The token of `Authorization: Bearer <token>`, or the password of `Authorization: Basic ...` (RFC 7617), which is how
/// browsers and MLflow's clients send one; the user's name beside it is not looked at. `None`: there is no such header.
pub fn secret(headers: &HeaderMap) -> Option<Result<Secret, String>> {
    let value = headers.get(header::AUTHORIZATION)?;
    let read = || {
        let value = value.to_str().ok().filter(|value| value.len() <= LONGEST).ok_or("it is no text, or too long")?;
        let (scheme, rest) = value.trim().split_once(' ').ok_or("it names no scheme")?;
        let token = if scheme.eq_ignore_ascii_case("bearer") {
            rest.trim().to_owned()
        } else if scheme.eq_ignore_ascii_case("basic") {
            let decoded = STANDARD.decode(rest.trim()).map_err(|_| "it is not base64")?;
            let decoded = String::from_utf8(decoded).map_err(|_| "it is not UTF-8")?;
            decoded.split_once(':').ok_or("it has no password")?.1.to_owned()
        } else {
            return Err("its scheme is neither Bearer nor Basic".to_owned());
        };
        token.parse().map_err(|e: BadSecret| e.to_string())
    };
    Some(read().map_err(|why| format!("the Authorization header does not fit: {why}")))
}

/// The project named beside the token.
pub fn project(headers: &HeaderMap) -> Option<Result<ProjectName, String>> {
    let (name, value) = PROJECT.iter().find_map(|name| Some((name, headers.get(name)?)))?;
    let read = value.to_str().map_err(|_| "it is no text".to_owned());
    Some(
        read.and_then(|text| text.trim().parse().map_err(|e: domain::BadName| e.to_string()))
            .map_err(|why| format!("the header {name} names no project: {why}")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<Result<String, String>> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        secret(&headers).map(|read| read.map(|secret| secret.reveal()))
    }

    #[test]
    fn a_token_comes_as_bearer_or_as_a_password() {
        let token = format!("mpt_default.0123456789abcdef.{}", "7".repeat(64));
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for value in [
            format!("Bearer {token}"),
            format!("bearer  {token} "),
            basic(&format!("ann:{token}")),
            basic(&format!(":{token}")),
        ] {
            assert_eq!(read(&value), Some(Ok(token.clone())), "{value}");
        }
        for value in [
            token.clone(),
            format!("Digest {token}"),
            "Bearer sesame".into(),
            "Bearer ".into(),
            "Basic ???".into(),
            basic("ann"),
            basic("ann:sesame"),
            format!("Bearer {}", "x".repeat(5_000)),
        ] {
            let refused = read(&value).expect("there is a header").expect_err("no token");
            assert!(!refused.contains("sesame"), "{refused}");
        }
        assert!(secret(&HeaderMap::new()).is_none());
    }
}
