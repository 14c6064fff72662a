//! Arrow Flight: training sets for any client of Arrow, SQL, and what Feast's remote offline store asks.
//!
//! Feast's client sends a command and a table and reads a table back, in one exchange (`DoExchange`), or, in its older
//! versions, in three calls (`DoPut`, `GetFlightInfo`, `DoGet`). Our own tickets ([`own`]) need no table. Commands of
//! Flight SQL ([`sql`]) are told from both by their name.

mod feast;
mod join;
mod own;
mod receive;
mod sql;
mod table;
mod uploads;

use std::{pin::Pin, sync::Arc};

use arrow::array::RecordBatch;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
    encode::FlightDataEncoderBuilder,
    flight_descriptor::DescriptorType,
    flight_service_server::{FlightService, FlightServiceServer},
};
use bytes::Bytes;
use domain::{ErrorCode, Frame, Right, definition::Definition};
use futures::{Stream, TryStreamExt as _, stream};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    app::App,
    feast::{Class, Refusal},
    http::access,
};
use feast::Command;
use own::Wanted;
use receive::Incoming;
use uploads::Uploads;

/// Rows that are sent together.
const BATCH_ROWS: usize = 65_536;
/// Tables that are received and worked on at once; others wait to be read.
const TABLES_AT_ONCE: usize = 8;
/// Reads and writes come by one method: what writes asks for one right more.
const DO_PUT: &str = "POST /arrow.flight.protocol.FlightService/DoPut";

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

/// The service of one project.
#[derive(Clone)]
pub struct Flight {
    app: App,
    uploads: Uploads,
    seats: Arc<Semaphore>,
}

/// The service, ready to be added to a router.
pub fn service(app: App) -> FlightServiceServer<Flight> {
    let flight = Flight { app, uploads: Uploads::default(), seats: Arc::new(Semaphore::new(TABLES_AT_ONCE)) };
    FlightServiceServer::new(flight).max_decoding_message_size(receive::TABLE_BYTES_MAX)
}

/// A frame as a batch.
fn batch(frame: &Frame) -> Result<RecordBatch, Refusal> {
    storage::to_batch(frame).map_err(|e| Refusal::new(ErrorCode::Internal, Class::General, e.to_string()))
}

/// What a command of Feast's or a ticket of ours asks for.
enum Asked {
    Feast(Command),
    Own(Box<Wanted>),
}

fn asked(bytes: &[u8]) -> Result<Asked, Status> {
    #[derive(serde::Deserialize)]
    struct Named {
        #[serde(rename = "api")]
        _api: serde::de::IgnoredAny,
    }
    if serde_json::from_slice::<Named>(bytes).is_err() {
        return Ok(Asked::Own(Box::new(Wanted::read(bytes).map_err(|e| e.to_flight())?)));
    }
    let command = serde_json::from_slice(bytes);
    let unfit = |e| Refusal::unfit(Class::General, format!("the command does not fit: {e}")).to_flight();
    command.map(Asked::Feast).map_err(unfit)
}

/// What a descriptor asks for: a command, or a path `sources/NAME`.
fn described(descriptor: &FlightDescriptor) -> Result<Asked, Status> {
    if descriptor.r#type() != DescriptorType::Path {
        return asked(&descriptor.cmd);
    }
    match descriptor.path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sources", name] => asked(serde_json::json!({ "source": name }).to_string().as_bytes()),
        _ => {
            let message = format!("no flight stands under the path {:?}: list them", descriptor.path);
            Err(Refusal::not_found(Class::General, message).to_flight())
        }
    }
}

/// A table as the messages of a stream, schema first.
fn send(table: RecordBatch) -> Answers<FlightData> {
    let rows = table.num_rows();
    let schema = table.schema();
    let pieces = (0..rows).step_by(BATCH_ROWS).map(move |from| Ok(table.slice(from, BATCH_ROWS.min(rows - from))));
    let encoder = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_dictionary_handling(arrow_flight::encode::DictionaryHandling::Resend);
    Box::pin(encoder.build(stream::iter(pieces)).map_err(Status::from))
}

impl Flight {
    async fn settled(&self, wanted: Wanted) -> Result<Wanted, Status> {
        wanted.settled(&self.app.registry).await.map_err(|e| e.to_flight())
    }

    /// How a descriptor is fetched. `schema` where it is known without building the table.
    async fn info(&self, descriptor: FlightDescriptor, wanted: Wanted) -> Result<FlightInfo, Status> {
        let features = &self.app.features;
        let schema = wanted.schema(features).await.map_err(|e| e.to_flight())?;
        let parts = wanted.parts(features, self.app.clock.now()).await.map_err(|e| e.to_flight())?;
        let mut info = FlightInfo::new().with_descriptor(descriptor).try_with_schema(&schema).map_err(unwritten)?;
        for part in &parts {
            let ticket = serde_json::to_vec(part).map_err(|e| Status::internal(e.to_string()))?;
            info = info.with_endpoint(FlightEndpoint::new().with_ticket(Ticket::new(ticket)));
        }
        Ok(info)
    }
}

fn unwritten(error: arrow::error::ArrowError) -> Status {
    Refusal::new(ErrorCode::Internal, Class::General, format!("could not write a schema: {error}")).to_flight()
}

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented("there is no handshake: send a token as `authorization: Bearer <token>`"))
    }

    /// The sources, whose rows can be fetched.
    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        let mut flights = Vec::new();
        for definition in self.app.features.definitions() {
            if let Definition::Source(source) = definition {
                let path = vec!["sources".to_owned(), source.name.to_string()];
                flights.push(self.info(FlightDescriptor::new_path(path), Wanted::all_of(&source.name)).await);
            }
        }
        Ok(Response::new(Box::pin(stream::iter(flights))))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let descriptor = request.into_inner();
        if let Some(command) = sql::command(&descriptor.cmd) {
            return sql::info(&self.app, descriptor, command?).await.map(Response::new);
        }
        match described(&descriptor)? {
            Asked::Own(wanted) => {
                let wanted = self.settled(*wanted).await?;
                self.info(descriptor, wanted).await.map(Response::new)
            }
            Asked::Feast(_) if !self.uploads.waits(&descriptor.cmd, self.app.clock.now()) => {
                Err(uploads::nothing_waits().to_flight())
            }
            Asked::Feast(_) => {
                let ticket = Ticket::new(descriptor.cmd.clone());
                let info = FlightInfo::new().with_descriptor(descriptor);
                Ok(Response::new(info.with_endpoint(FlightEndpoint::new().with_ticket(ticket))))
            }
        }
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented("nothing here takes so long: call GetFlightInfo"))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        if let Some(command) = sql::command(&request.get_ref().cmd) {
            return sql::schema(&self.app, command?).await.map(Response::new);
        }
        let Asked::Own(wanted) = described(request.get_ref())? else {
            return Err(
                Refusal::unfit(Class::General, "the schema of this answer is known when it is there").to_flight()
            );
        };
        let wanted = self.settled(*wanted).await?;
        let schema = wanted.schema(&self.app.features).await.map_err(|e| e.to_flight())?;
        let options = arrow::ipc::writer::IpcWriteOptions::default();
        SchemaAsIpc::new(&schema, &options).try_into().map(Response::new).map_err(unwritten)
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let Ticket { ticket } = request.into_inner();
        if let Some(command) = sql::command(&ticket) {
            return sql::get(&self.app, command?).await.map(Response::new);
        }
        let table = match asked(&ticket)? {
            Asked::Own(wanted) => self.settled(*wanted).await?.table(&self.app.features).await,
            Asked::Feast(command) => match self.uploads.take(&ticket, self.app.clock.now()) {
                Ok(sent) => command.get(&self.app, &sent).await,
                Err(none) => Err(none),
            },
        };
        Ok(Response::new(send(table.map_err(|e| e.to_flight())?)))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let _seat = self.seats.acquire().await.map_err(|_| Status::unavailable("the server stops"))?;
        let (_, extensions, messages) = request.into_parts();
        let incoming = Incoming::open(messages).await?;
        let command_bytes = incoming.command.clone();
        if let Some(command) = sql::command(&command_bytes) {
            let bound = sql::put(command?, incoming).await?;
            return Ok(Response::new(Box::pin(stream::iter([Ok(bound)]))));
        }
        let Asked::Feast(command) = asked(&command_bytes)? else {
            let message = "rows are written with Feast's command offline_write_batch, or ingested into a source";
            return Err(Refusal::unfit(Class::General, message).to_flight());
        };
        if command.writes() {
            access::demand(&self.app, &extensions, Right::Write, DO_PUT)
                .await
                .map_err(|p| Refusal::from(p).to_flight())?;
        }
        let table = incoming.table().await?;
        let done = if command.is_done_at_once() {
            command.put(&self.app, &table).await
        } else {
            self.uploads.put(command_bytes, table, self.app.clock.now())
        };
        done.map_err(|e| e.to_flight())?;
        let taken = PutResult { app_metadata: Bytes::new() };
        Ok(Response::new(Box::pin(stream::iter([Ok(taken)]))))
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        let _seat = self.seats.acquire().await.map_err(|_| Status::unavailable("the server stops"))?;
        let incoming = Incoming::open(request.into_inner()).await?;
        let asked = asked(&incoming.command)?;
        let sent = incoming.table().await?;
        let table = match asked {
            Asked::Feast(command) => command.get(&self.app, &sent).await,
            Asked::Own(wanted) => self.settled(*wanted).await?.table(&self.app.features).await,
        };
        Ok(Response::new(send(table.map_err(|e| e.to_flight())?)))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let results = sql::act(&self.app, request.get_ref()).await?;
        Ok(Response::new(Box::pin(stream::iter(results.into_iter().map(Ok)))))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Ok(Response::new(Box::pin(stream::iter(sql::actions().into_iter().map(Ok)))))
    }
}
