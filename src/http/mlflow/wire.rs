//! MLflow's wire form: protobuf messages as JSON, the way its clients write and read them.
//!
//! A request is an object whose fields come in the body, or in the query string of a GET; unknown fields are ignored,
//! 64-bit integers come as numbers or texts, floats beyond JSON as `"NaN"`, `"Infinity"`, `"-Infinity"`. An answer
//! leaves out what is not set. An error is `{"error_code", "message"}`.

use axum::{
    Json,
    extract::{FromRequest, Request},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::{Coded, ErrorCode};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::http::problem::{Problem, Raw, chain};

/// An error as MLflow's clients read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub error_code: &'static str,
    pub message: String,
}

impl Refusal {
    /// A fault of the caller's: 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        // Not what `ErrorCode` says elsewhere: the client retries 408, 429 and 5xx for minutes, so nothing that the
        // caller has to mend may be one of those, and it knows a name that is taken as a 400.
        let (status, error_code) = match code {
            ErrorCode::InvalidArgument | ErrorCode::Conflict => (400, "INVALID_PARAMETER_VALUE"),
            ErrorCode::Unauthenticated => (401, "UNAUTHENTICATED"),
            ErrorCode::PermissionDenied => (403, "PERMISSION_DENIED"),
            ErrorCode::NotFound => (404, "RESOURCE_DOES_NOT_EXIST"),
            ErrorCode::AlreadyExists => (400, "RESOURCE_ALREADY_EXISTS"),
            ErrorCode::TooLarge => (413, "BAD_REQUEST"),
            ErrorCode::Overloaded => (429, "REQUEST_LIMIT_EXCEEDED"),
            ErrorCode::DeadlineExceeded => (504, "DEADLINE_EXCEEDED"),
            ErrorCode::Unavailable => (503, "TEMPORARILY_UNAVAILABLE"),
            ErrorCode::DataLoss => (500, "DATA_LOSS"),
            ErrorCode::Internal => (500, "INTERNAL_ERROR"),
        };
        Self { status, error_code, message: message.into() }
    }

    /// A route that is not served.
    pub fn no_route(method: &str, path: &str) -> Self {
        let message = format!("no route {method} {path}; docs/mlflow.md lists what is served");
        Self { status: 404, error_code: "ENDPOINT_NOT_FOUND", message }
    }
}

impl<E: Coded> From<E> for Refusal {
    fn from(error: E) -> Self {
        let code = error.code();
        if matches!(code, ErrorCode::Internal | ErrorCode::DataLoss) {
            tracing::error!(error = %chain(&error), "request failed");
        }
        let hint = error.hint();
        Self::new(code, if hint.is_empty() { error.to_string() } else { format!("{error}: {hint}") })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(json!({"error_code": self.error_code, "message": self.message}))).into_response()
    }
}

/// What a call answers: an object, or an error.
pub type Answer = Result<Json<Value>, Refusal>;

/// The answer of a call that has nothing to say.
pub fn done() -> Answer {
    Ok(Json(json!({})))
}

/// Leaves out what is not set: nulls and empty lists, at every depth. Empty texts stay.
#[must_use]
pub fn trimmed(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let set = |value: &Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
            map.into_iter().map(|(key, value)| (key, trimmed(value))).filter(|(_, value)| set(value)).collect()
        }
        Value::Array(list) => list.into_iter().map(trimmed).collect(),
        other => other,
    }
}

/// A float as it leaves.
#[derive(Debug, Clone, Copy)]
pub struct Float(pub f64);

impl Serialize for Float {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            x if x.is_nan() => to.serialize_str("NaN"),
            f64::INFINITY => to.serialize_str("Infinity"),
            f64::NEG_INFINITY => to.serialize_str("-Infinity"),
            x => to.serialize_f64(x),
        }
    }
}

/// A parameter or tag as it leaves.
#[derive(Debug, Clone, Serialize)]
pub struct Pair {
    key: String,
    value: String,
}

impl From<(String, String)> for Pair {
    fn from((key, value): (String, String)) -> Self {
        Self { key, value }
    }
}

/// The fields of a request.
#[derive(Debug, Clone, Default)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The fields of an object inside a list or field; `what` names it in errors.
    pub fn of(what: &str, value: &Value) -> Result<Self, Refusal> {
        let object = value.as_object().ok_or_else(|| Refusal::invalid(format!("`{what}` is not an object")))?;
        Ok(Self(object.clone()))
    }

    /// The field as it came; null counts as absent.
    pub fn raw(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    fn wrong(name: &str, wanted: &str, value: &Value) -> Refusal {
        let mut shown = value.to_string();
        if let Some((cut, _)) = shown.char_indices().nth(80) {
            shown.truncate(cut);
        }
        Refusal::invalid(format!("Invalid value {shown} for parameter '{name}' supplied: it must be {wanted}"))
    }

    fn missing(name: &str) -> Refusal {
        Refusal::invalid(format!("Missing value for required parameter '{name}'"))
    }

    /// A text; numbers and truth values are taken as they are written.
    pub fn text_opt(&self, name: &str) -> Result<Option<String>, Refusal> {
        self.raw(name)
            .map(|value| match value {
                Value::String(text) => Ok(text.clone()),
                Value::Number(number) => Ok(number.to_string()),
                Value::Bool(truth) => Ok(truth.to_string()),
                other => Err(Self::wrong(name, "a text", other)),
            })
            .transpose()
    }

    /// A text that must be there and must not be empty.
    pub fn text(&self, name: &str) -> Result<String, Refusal> {
        self.text_opt(name)?.filter(|text| !text.is_empty()).ok_or_else(|| Self::missing(name))
    }

    /// The run, which old clients call `run_uuid`.
    pub fn run_id(&self) -> Result<String, Refusal> {
        match self.text_opt("run_id")?.filter(|text| !text.is_empty()) {
            Some(id) => Ok(id),
            None => self.text_opt("run_uuid")?.filter(|text| !text.is_empty()).ok_or_else(|| Self::missing("run_id")),
        }
    }

    pub fn int_opt(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.raw(name)
            .map(|value| {
                let read = match value {
                    // Clients write whole floats, such as 1.0, for integers.
                    Value::Number(number) => number.as_i64().or_else(|| {
                        let float = number.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 9.0e15);
                        float.map(|x| x as i64)
                    }),
                    Value::String(text) => text.trim().parse().ok(),
                    _ => None,
                };
                read.ok_or_else(|| Self::wrong(name, "a 64-bit integer", value))
            })
            .transpose()
    }

    pub fn int(&self, name: &str) -> Result<i64, Refusal> {
        self.int_opt(name)?.ok_or_else(|| Self::missing(name))
    }

    pub fn float(&self, name: &str) -> Result<f64, Refusal> {
        let value = self.raw(name).ok_or_else(|| Self::missing(name))?;
        let read = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => match text.trim() {
                "NaN" | "nan" => Some(f64::NAN),
                "Infinity" | "inf" => Some(f64::INFINITY),
                "-Infinity" | "-inf" => Some(f64::NEG_INFINITY),
                text => text.parse().ok(),
            },
            _ => None,
        };
        read.ok_or_else(|| Self::wrong(name, "a number", value))
    }

    pub fn truth_opt(&self, name: &str) -> Result<Option<bool>, Refusal> {
        self.raw(name)
            .map(|value| match value {
                Value::Bool(truth) => Ok(*truth),
                Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
                Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
                other => Err(Self::wrong(name, "true or false", other)),
            })
            .transpose()
    }

    /// A list; absent is empty, and a single value (a query parameter given once) is a list of one.
    pub fn list(&self, name: &str) -> Vec<Value> {
        match self.raw(name) {
            None => Vec::new(),
            Some(Value::Array(list)) => list.clone(),
            Some(single) => vec![single.clone()],
        }
    }

    /// A list of texts.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, Refusal> {
        self.list(name)
            .into_iter()
            .map(|value| match value {
                Value::String(text) => Ok(text),
                Value::Number(number) => Ok(number.to_string()),
                other => Err(Self::wrong(name, "a list of texts", &other)),
            })
            .collect()
    }

    /// A list of objects.
    pub fn objects(&self, name: &str) -> Result<Vec<Self>, Refusal> {
        self.list(name).iter().map(|value| Self::of(name, value)).collect()
    }

    /// Key and value pairs, as tags and parameters come: `[{"key", "value"}]`. A missing value is an empty one.
    pub fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, Refusal> {
        let read = |pair: Self| Ok((pair.text("key")?, pair.text_opt("value")?.unwrap_or_default()));
        self.objects(name)?.into_iter().map(read).collect()
    }

    /// `max_results`: `default` when absent; beyond 1..=`most` it is refused.
    pub fn max_results(&self, default: usize, most: usize) -> Result<usize, Refusal> {
        let Some(asked) = self.int_opt("max_results")? else { return Ok(default) };
        match usize::try_from(asked) {
            Ok(asked) if (1..=most).contains(&asked) => Ok(asked),
            _ => Err(Refusal::invalid(format!(
                "Invalid value {asked} for parameter 'max_results' supplied: it must be at least 1 and at most {most}"
            ))),
        }
    }

    /// The token of the page asked for; empty for the first.
    pub fn page_token(&self) -> Result<String, Refusal> {
        Ok(self.text_opt("page_token")?.unwrap_or_default())
    }
}

/// Repeated names become lists.
fn query_fields(query: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = Value::String(value.into_owned());
        match fields.get_mut(&*name) {
            None => drop(fields.insert(name.into_owned(), value)),
            Some(Value::Array(list)) => list.push(value),
            Some(single) => *single = Value::Array(vec![single.take(), value]),
        }
    }
    fields
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let mut fields = query_fields(request.uri().query().unwrap_or_default());
        let Raw(body) = Raw::from_request(request, state).await.map_err(Refusal::from_problem)?;
        if !body.trim_ascii().is_empty() {
            let body: Value = serde_json::from_slice(&body).map_err(|e| Refusal {
                error_code: "BAD_REQUEST",
                ..Refusal::invalid(format!("the body is not JSON: {e}"))
            })?;
            let Value::Object(body) = body else {
                return Err(Refusal { error_code: "BAD_REQUEST", ..Refusal::invalid("the body is not a JSON object") });
            };
            fields.extend(body);
        }
        Ok(Self(fields))
    }
}

impl Refusal {
    /// What a shared extractor refused.
    pub fn from_problem(problem: Problem) -> Self {
        Self { status: problem.status, error_code: "BAD_REQUEST", message: problem.in_one_line() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: &Value) -> Fields {
        Fields::of("request", value).unwrap()
    }

    #[test]
    fn integers_come_as_numbers_or_texts() {
        let given = fields(&json!({"a": 3, "b": "9007199254740993", "c": 2.0, "d": 2.5, "e": "x"}));
        assert_eq!(given.int("a"), Ok(3));
        assert_eq!(given.int("b"), Ok(9_007_199_254_740_993));
        assert_eq!(given.int("c"), Ok(2));
        assert!(given.int("d").unwrap_err().message.contains("'d'"));
        assert!(given.int("e").is_err() && given.int("f").unwrap_err().message.contains("Missing value"));
    }

    #[test]
    fn floats_beyond_json_travel_as_texts_both_ways() {
        let given = fields(&json!({"a": "NaN", "b": "-Infinity", "c": 1}));
        assert!(given.float("a").unwrap().is_nan());
        assert_eq!(given.float("b"), Ok(f64::NEG_INFINITY));
        let left = |value| json!(Float(value));
        assert_eq!((left(given.float("c").unwrap()), left(f64::INFINITY)), (json!(1.0), json!("Infinity")));
    }

    #[test]
    fn a_repeated_query_parameter_is_a_list_and_a_single_one_is_too_where_a_list_is_wanted() {
        let given = Fields(query_fields("run_ids=a&run_ids=b&one=x%20y"));
        assert_eq!(given.texts("run_ids"), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(given.texts("one"), Ok(vec!["x y".to_owned()]));
        assert_eq!(given.texts("none"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_not_set_is_left_out() {
        let value = json!({"a": null, "b": [], "c": "", "d": {"e": null, "f": [{"g": null}]}, "h": 0});
        assert_eq!(trimmed(value), json!({"c": "", "d": {"f": [{}]}, "h": 0}));
    }
}
