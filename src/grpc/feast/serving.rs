//! Feast's feature server over gRPC: what its REST route answers, in protobuf.

use std::collections::{BTreeMap, HashMap};

use domain::{Column, Frame, Timestamp, Value};
use feature_store::{FeatureMeta, FeatureStatus};
use proto::feast::{
    serving::{
        FeatureList, FeatureViewMetadata, FieldStatus, GetFeastServingInfoRequest, GetFeastServingInfoResponse,
        GetOnlineFeaturesRequest, GetOnlineFeaturesResponse, GetOnlineFeaturesResponseMetadata,
        get_online_features_request::Kind,
        get_online_features_response::FeatureVector,
        serving_service_server::{ServingService, ServingServiceServer},
    },
    types::{self, RepeatedValue, value::Val},
};
use tonic::{Request, Response, Status};

use crate::{
    app::App,
    feast::{
        Class, Refusal,
        entities::{Cell, Entities},
        objects::stamp,
        reference,
    },
};

/// The feature server of one project.
pub struct Serving {
    app: App,
}

/// The service, ready to be added to a router.
pub fn service(app: App, message_bytes_max: usize) -> ServingServiceServer<Serving> {
    ServingServiceServer::new(Serving { app }).max_decoding_message_size(message_bytes_max)
}

#[tonic::async_trait]
impl ServingService for Serving {
    async fn get_feast_serving_info(
        &self,
        _: Request<GetFeastServingInfoRequest>,
    ) -> Result<Response<GetFeastServingInfoResponse>, Status> {
        Ok(Response::new(GetFeastServingInfoResponse { version: crate::app::code_version() }))
    }

    async fn get_online_features(
        &self,
        request: Request<GetOnlineFeaturesRequest>,
    ) -> Result<Response<GetOnlineFeaturesResponse>, Status> {
        self.online(request.into_inner()).await.map(Response::new).map_err(|e| e.to_status())
    }
}

impl Serving {
    async fn online(&self, request: GetOnlineFeaturesRequest) -> Result<GetOnlineFeaturesResponse, Refusal> {
        let (features, full) = (&self.app.features, request.full_feature_names);
        let selection = match &request.kind {
            Some(Kind::FeatureService(service)) => reference::choose_service(features, service, full)?,
            Some(Kind::Features(list)) => reference::choose(features, &list.val, full).await?,
            None => return Err(Refusal::unfit(Class::General, "name features, or a feature_service")),
        };
        let asked = entities(request.entities, request.request_context)?.ask(&selection)?;
        let at = vec![self.app.clock.now(); asked.rows];
        let found = features.online_selected(&selection, &asked.keys, &at).await?;
        let versions = match request.include_feature_view_version_metadata {
            true => reference::versions(features, &selection).await?,
            false => Vec::new(),
        };
        let names = asked.keys.names().iter().map(ToString::to_string);
        let made = selection.features().zip(found.features.names());
        let made = made.map(|(one, whole)| if full { whole.to_string() } else { one.feature.to_string() });
        let version = |(name, version): (String, u64)| {
            let version = i32::try_from(version).unwrap_or(i32::MAX);
            FeatureViewMetadata { name, version }
        };
        let metadata = GetOnlineFeaturesResponseMetadata {
            feature_names: Some(FeatureList { val: names.chain(made).collect() }),
            feature_view_metadata: versions.into_iter().map(version).collect(),
        };
        let mut results = keys(&asked.keys);
        results.extend(found.features.iter().zip(&found.meta).map(|((_, column), meta)| feature(column, meta)));
        Ok(GetOnlineFeaturesResponse { metadata: Some(metadata), results, status: true })
    }
}

/// The columns that were sent, in order of their names: a map of protobuf has no order of its own.
fn entities(
    keys: HashMap<String, RepeatedValue>,
    context: HashMap<String, RepeatedValue>,
) -> Result<Entities, Refusal> {
    let all: BTreeMap<String, RepeatedValue> = context.into_iter().chain(keys).collect();
    let column = |(name, values): (String, RepeatedValue)| -> Result<_, Refusal> {
        let cells = values.val.into_iter().map(|value| cell(&name, value)).collect::<Result<Vec<_>, _>>()?;
        Ok((name, cells))
    };
    all.into_iter().map(column).collect::<Result<Vec<_>, Refusal>>().map(Entities::of)
}

fn cell(name: &str, value: types::Value) -> Result<Cell, Refusal> {
    Ok(match value.val {
        None => Cell::Null,
        Some(Val::StringVal(text)) => Cell::Text(text.into()),
        Some(Val::Int32Val(i)) => Cell::Int(i.into()),
        Some(Val::Int64Val(i) | Val::UnixTimestampVal(i)) => Cell::Int(i),
        Some(Val::DoubleVal(x)) => Cell::Float(x),
        Some(Val::FloatVal(x)) => Cell::Float(x.into()),
        Some(Val::BoolVal(b)) => Cell::Bool(b),
        Some(Val::BytesVal(_)) => {
            return Err(Refusal::unfit(Class::General, format!("entities.{name} holds bytes, which are no key")));
        }
        Some(_) => {
            return Err(Refusal::unfit(Class::General, format!("entities.{name} holds a list, which is no key")));
        }
    })
}

fn value(value: Value) -> types::Value {
    let val = match value {
        Value::Null => None,
        Value::Bool(b) => Some(Val::BoolVal(b)),
        Value::Int(i) => Some(Val::Int64Val(i)),
        Value::Float(x) => Some(Val::DoubleVal(x)),
        Value::Text(text) => Some(Val::StringVal(text.as_ref().to_owned())),
        Value::Timestamp(at) => Some(Val::UnixTimestampVal(seconds(at))),
        Value::List(values) => list(&values),
    };
    types::Value { val }
}

const fn seconds(at: Timestamp) -> i64 {
    at.micros().div_euclid(1_000_000)
}

/// A list by the type of its first element; elements are all of one type.
fn list(values: &[Value]) -> Option<Val> {
    macro_rules! of {
        ($kind:path => $made:expr) => {
            values.iter().filter_map(|value| if let $kind(x) = value { Some($made(x)) } else { None }).collect()
        };
    }
    Some(match values.first() {
        // Whose elements nobody knows.
        None => Val::DoubleListVal(types::DoubleList::default()),
        Some(Value::Bool(_)) => Val::BoolListVal(types::BoolList { val: of!(Value::Bool => |b: &bool| *b) }),
        Some(Value::Int(_)) => Val::Int64ListVal(types::Int64List { val: of!(Value::Int => |i: &i64| *i) }),
        Some(Value::Float(_)) => Val::DoubleListVal(types::DoubleList { val: of!(Value::Float => |x: &f64| *x) }),
        Some(Value::Text(_)) => Val::StringListVal(types::StringList {
            val: of!(Value::Text => |text: &std::sync::Arc<str>| text.to_string()),
        }),
        Some(Value::Timestamp(_)) => {
            Val::UnixTimestampListVal(types::Int64List { val: of!(Value::Timestamp => |at: &Timestamp| seconds(*at)) })
        }
        Some(Value::Null | Value::List(_)) => return None,
    })
}

const fn status(status: FeatureStatus) -> FieldStatus {
    match status {
        FeatureStatus::Present => FieldStatus::Present,
        FeatureStatus::NullValue => FieldStatus::NullValue,
        FeatureStatus::NotFound => FieldStatus::NotFound,
        FeatureStatus::OutsideMaxAge => FieldStatus::OutsideMaxAge,
    }
}

fn feature(column: &Column, meta: &FeatureMeta) -> FeatureVector {
    FeatureVector {
        values: (0..column.len()).map(|row| value(column.get(row))).collect(),
        statuses: meta.statuses.iter().map(|known| status(*known).into()).collect(),
        event_timestamps: meta.event_times.iter().map(|at| stamp(at.unwrap_or(Timestamp::from_micros(0)))).collect(),
    }
}

/// Keys are there as they were sent, and of no time.
fn keys(keys: &Frame) -> Vec<FeatureVector> {
    let vector = |column: &Column| {
        let there = |row| if column.get(row).is_null() { FeatureStatus::NullValue } else { FeatureStatus::Present };
        let meta =
            FeatureMeta { statuses: (0..column.len()).map(there).collect(), event_times: vec![None; column.len()] };
        feature(column, &meta)
    };
    keys.iter().map(|(_, column)| vector(column)).collect()
}
