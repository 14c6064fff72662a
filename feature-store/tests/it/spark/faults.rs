//! A server that refuses, breaks off, says nothing, or is not there; and a caller that goes away.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::{Coded as _, ErrorCode, Value};
use feature_store::{JoinPlace, Remote, Spark};
use spark::protocol::{
    ConfigRequest, ConfigResponse, ExecutePlanRequest, ExecutePlanResponse, InterruptRequest, InterruptResponse,
    ReleaseSessionRequest, ReleaseSessionResponse,
    plan::OpType,
    spark_connect_service_server::{SparkConnectService, SparkConnectServiceServer},
};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, transport::Server};

use crate::world::{World, cell, event, events, spine};

/// What a server does with a query.
#[derive(Debug, Clone, Copy)]
enum Fault {
    BreaksOff,
    SaysNothing,
}

#[derive(Clone)]
struct Faulty {
    fault: Fault,
    queries: Arc<AtomicUsize>,
    asked: Arc<Notify>,
    interrupted: Arc<Notify>,
}

#[tonic::async_trait]
impl SparkConnectService for Faulty {
    type ExecutePlanStream = Pin<Box<dyn Stream<Item = Result<ExecutePlanResponse, Status>> + Send>>;

    async fn execute_plan(
        &self,
        request: Request<ExecutePlanRequest>,
    ) -> Result<Response<Self::ExecutePlanStream>, Status> {
        let is_query = matches!(request.into_inner().plan.and_then(|plan| plan.op_type), Some(OpType::Root(_)));
        if !is_query {
            return Ok(Response::new(Box::pin(tokio_stream::empty())));
        }
        self.queries.fetch_add(1, Ordering::SeqCst);
        self.asked.notify_one();
        match self.fault {
            Fault::BreaksOff => {
                let gone = Err(Status::unavailable("worker lost"));
                Ok(Response::new(Box::pin(tokio_stream::iter([Ok(ExecutePlanResponse::default()), gone]))))
            }
            Fault::SaysNothing => Ok(Response::new(Box::pin(tokio_stream::pending()))),
        }
    }

    async fn config(&self, request: Request<ConfigRequest>) -> Result<Response<ConfigResponse>, Status> {
        match request.metadata().get("authorization") {
            Some(token) if token == "Bearer right" => Ok(Response::new(ConfigResponse::default())),
            _ => Err(Status::unauthenticated("wrong token")),
        }
    }

    async fn interrupt(&self, _: Request<InterruptRequest>) -> Result<Response<InterruptResponse>, Status> {
        self.interrupted.notify_one();
        Ok(Response::new(InterruptResponse::default()))
    }

    async fn release_session(
        &self,
        _: Request<ReleaseSessionRequest>,
    ) -> Result<Response<ReleaseSessionResponse>, Status> {
        Ok(Response::new(ReleaseSessionResponse::default()))
    }
}

/// A server with the fault, and where it listens.
async fn serve(fault: Fault) -> (Faulty, String) {
    let (asked, interrupted) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let faulty = Faulty { fault, queries: Arc::default(), asked, interrupted };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("sc://{}", listener.local_addr().unwrap());
    let service = SparkConnectServiceServer::new(faulty.clone());
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    (faulty, address)
}

async fn world(address: &str, deadline: Duration) -> World {
    let spark = Spark::new(address.parse().unwrap(), None, deadline).unwrap();
    let remote = Remote { spark: Some(spark), place: JoinPlace::Spark };
    let world = World::open_remote(Arc::new(TempDir::new().unwrap()), |kv| Arc::new(kv), remote).await;
    world.apply(&events()).await;
    world.put("events", vec![event(1, "a", 1, 1.0)]).await;
    world
}

/// What a join on the server says instead of an answer.
async fn refused(address: &str, deadline: Duration) -> (ErrorCode, String) {
    let world = world(address, deadline).await;
    let (keys, at) = spine(&[(Some("a"), 9)]);
    let error = world.store.historical(&"all".parse().unwrap(), &keys, &at).await.unwrap_err();
    // What is served online does not need Spark.
    let online = world.store.online(&"all".parse().unwrap(), &keys, &at).await.unwrap();
    assert_eq!(cell(&online.features, "last__x", 0), Value::Float(1.0));
    (error.code(), format!("{error}; {}", error.hint()))
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_server_that_breaks_off_is_named_and_nothing_is_made_of_half_an_answer() {
    let (faulty, address) = serve(Fault::BreaksOff).await;
    let (code, said) = refused(&format!("{address}/;token=right"), MINUTE).await;
    assert_eq!(code, ErrorCode::Unavailable);
    assert_eq!(
        said,
        format!("Spark at {address} is gone: worker lost; start it again, or set `joins.place` to `local`")
    );
    assert_eq!(faulty.queries.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refused_token_is_this_servers_affair_and_not_the_callers() {
    let (_, address) = serve(Fault::BreaksOff).await;
    let (code, said) = refused(&format!("{address}/;token=wrong"), MINUTE).await;
    assert_eq!(code, ErrorCode::Unavailable);
    assert!(said.contains("refuses this server: wrong token; put a token that it takes into `joins.spark_token_file`"));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for_forever() {
    let (faulty, address) = serve(Fault::SaysNothing).await;
    let (code, said) = refused(&format!("{address}/;token=right"), Duration::from_secs(1)).await;
    assert_eq!(code, ErrorCode::DeadlineExceeded);
    assert!(said.contains("gave no answer within 1 s"), "{said}");
    faulty.interrupted.notified().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("sc://{}", listener.local_addr().unwrap());
    drop(listener);
    let (code, said) = refused(&address, MINUTE).await;
    assert_eq!(code, ErrorCode::Unavailable);
    assert!(said.starts_with(&format!("Spark at {address} is gone")), "{said}");
}

#[tokio::test]
async fn a_caller_that_goes_away_has_its_query_interrupted() {
    let (faulty, address) = serve(Fault::SaysNothing).await;
    let world = world(&format!("{address}/;token=right"), MINUTE).await;
    let (keys, at) = spine(&[(Some("a"), 9)]);
    let service = "all".parse().unwrap();
    tokio::select! {
        answer = world.store.historical(&service, &keys, &at) => panic!("{answer:?}"),
        () = faulty.asked.notified() => {}
    }
    faulty.interrupted.notified().await;
}
