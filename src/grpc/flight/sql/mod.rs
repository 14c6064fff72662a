//! Flight SQL: what ADBC, JDBC and ODBC drivers speak, over the tables of [`crate::catalogue`].
//!
//! Protocol: `FlightSql.proto` of Apache Arrow. Statements are only read. A prepared statement is its own handle: the text
//! and, once bound, its values; the server keeps nothing of it, so there is nothing to lose and nothing to close.

mod handle;
mod info;
mod metadata;

use arrow::{datatypes::Schema, ipc::writer::IpcWriteOptions};
use arrow_flight::{
    Action, ActionType, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, PutResult, SchemaAsIpc,
    SchemaResult, Ticket,
    encode::FlightDataEncoderBuilder,
    error::FlightError,
    sql::{
        ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
        Any, Command, CommandPreparedStatementQuery, DoPutPreparedStatementResult, ProstMessageExt as _,
        TicketStatementQuery,
    },
};
use domain::ErrorCode;
use futures::{StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use tonic::Status;

use super::{Answers, receive::Incoming, unwritten};
use crate::{
    app::App,
    catalogue::Tables,
    grpc::{refuse, status},
};
use handle::Handle;

/// How all commands of Flight SQL are called.
const PREFIX: &str = "type.googleapis.com/arrow.flight.protocol.sql.";
const CREATE: &str = "CreatePreparedStatement";
const CLOSE: &str = "ClosePreparedStatement";

/// The command that the bytes of a descriptor or ticket are; `None` where they are something else.
pub(super) fn command(bytes: &[u8]) -> Option<Result<Command, Status>> {
    let any = Any::decode(bytes).ok().filter(|any| any.type_url.starts_with(PREFIX))?;
    Some(match Command::try_from(any) {
        Ok(Command::Unknown(any)) => Err(unknown(&any.type_url)),
        Ok(command) => Ok(command),
        Err(error) => Err(status(ErrorCode::InvalidArgument, error.to_string())),
    })
}

fn unknown(name: &str) -> Status {
    let short = name.strip_prefix(PREFIX).unwrap_or(name);
    Status::unimplemented(format!("{short} is not answered here: tables are read by SQL, and written by ingestion"))
}

/// How the answer to a command is fetched, and what it looks like.
pub(super) async fn info(app: &App, descriptor: FlightDescriptor, command: Command) -> Result<FlightInfo, Status> {
    let (schema, ticket) = match command {
        Command::CommandStatementQuery(query) => {
            let schema = described(app, &query.query).await?.schema;
            let handle = Handle::of(query.query).bytes()?;
            (schema, TicketStatementQuery { statement_handle: handle }.as_any())
        }
        Command::CommandPreparedStatementQuery(query) => {
            let schema = described(app, &Handle::read(&query.prepared_statement_handle)?.query).await?.schema;
            (schema, query.as_any())
        }
        other => (metadata::schema(&other)?, other.into_any()),
    };
    let ticket = Ticket::new(ticket.encode_to_vec());
    let info = FlightInfo::new().with_descriptor(descriptor).try_with_schema(&schema).map_err(unwritten)?;
    Ok(info.with_endpoint(FlightEndpoint::new().with_ticket(ticket)))
}

/// What the answer to a command looks like.
pub(super) async fn schema(app: &App, command: Command) -> Result<SchemaResult, Status> {
    let schema = match command {
        Command::CommandStatementQuery(query) => described(app, &query.query).await?.schema,
        Command::CommandPreparedStatementQuery(query) => {
            described(app, &Handle::read(&query.prepared_statement_handle)?.query).await?.schema
        }
        other => metadata::schema(&other)?,
    };
    SchemaAsIpc::new(&schema, &IpcWriteOptions::default()).try_into().map_err(unwritten)
}

/// The answer.
pub(super) async fn get(app: &App, command: Command) -> Result<Answers<FlightData>, Status> {
    match command {
        Command::TicketStatementQuery(ticket) => ask(app, &ticket.statement_handle).await,
        Command::CommandPreparedStatementQuery(query) => ask(app, &query.prepared_statement_handle).await,
        other => Ok(super::send(metadata::answer(app, other).await?)),
    }
}

async fn ask(app: &App, handle: &[u8]) -> Result<Answers<FlightData>, Status> {
    let handle = Handle::read(handle)?;
    let values = handle.values()?;
    let answer = app.sql.ask(Tables::of(app), &handle.query, values).await.map_err(refuse)?;
    let schema = answer.schema();
    let batches = answer.map(|batch| batch.map_err(|error| FlightError::Tonic(Box::new(refuse(error)))));
    let encoder = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_dictionary_handling(arrow_flight::encode::DictionaryHandling::Resend);
    Ok(Box::pin(encoder.build(batches).map_err(Status::from)))
}

/// Binds the values that come with a prepared statement: the answer is the handle to go on with.
pub(super) async fn put(command: Command, incoming: Incoming) -> Result<PutResult, Status> {
    let Command::CommandPreparedStatementQuery(CommandPreparedStatementQuery { prepared_statement_handle }) = command
    else {
        return Err(unknown(command.type_url()));
    };
    let handle = Handle::read(&prepared_statement_handle)?.bind(&incoming.table().await?)?;
    let answer = DoPutPreparedStatementResult { prepared_statement_handle: Some(handle.bytes()?) };
    Ok(PutResult { app_metadata: answer.encode_to_vec().into() })
}

/// Prepares a statement, or lets go of one.
pub(super) async fn act(app: &App, action: &Action) -> Result<Vec<arrow_flight::Result>, Status> {
    let any = || {
        Any::decode(&*action.body).map_err(|e| status(ErrorCode::InvalidArgument, format!("the action's body: {e}")))
    };
    let unpacked = |e: arrow::error::ArrowError| status(ErrorCode::InvalidArgument, format!("the action's body: {e}"));
    match action.r#type.as_str() {
        CREATE => {
            let asked: Option<ActionCreatePreparedStatementRequest> = any()?.unpack().map_err(unpacked)?;
            let asked =
                asked.ok_or_else(|| status(ErrorCode::InvalidArgument, "the action's body is of another kind"))?;
            let described = described(app, &asked.query).await?;
            let made = ActionCreatePreparedStatementResult {
                prepared_statement_handle: Handle::of(asked.query).bytes()?,
                dataset_schema: ipc(&described.schema)?,
                parameter_schema: ipc(&described.parameters)?,
            };
            Ok(vec![arrow_flight::Result::new(made.as_any().encode_to_vec())])
        }
        CLOSE => {
            let _: Option<ActionClosePreparedStatementRequest> = any()?.unpack().map_err(unpacked)?;
            Ok(Vec::new())
        }
        other => Err(Status::unimplemented(format!("there is no action {other}: list them"))),
    }
}

/// What [`act`] does.
pub(super) fn actions() -> Vec<ActionType> {
    let action =
        |name: &str, description: &str| ActionType { r#type: name.to_owned(), description: description.to_owned() };
    vec![
        action(CREATE, "Prepares a query; the answer has its handle and the schemas of its rows and parameters."),
        action(CLOSE, "Lets go of a prepared query."),
    ]
}

async fn described(app: &App, query: &str) -> Result<sql::Described, Status> {
    app.sql.describe(Tables::of(app), query).await.map_err(refuse)
}

fn ipc(schema: &Schema) -> Result<bytes::Bytes, Status> {
    let message: Result<IpcMessage, _> = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into();
    message.map(|IpcMessage(bytes)| bytes).map_err(unwritten)
}
