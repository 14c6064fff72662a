//! `millpond`: the one binary. Doors and wiring only; the domain lives in the crates below.

mod app;
mod catalogue;
mod cli;
mod consistency;
mod counts;
mod feast;
mod garbage;
mod grpc;
mod http;
mod joins;
mod objects;
mod rows;
mod serve;
mod tenants;
mod tls;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any thread exists: ONNX Runtime reads this when its library initialises.
    backends::silence_telemetry();
    tls::choose_provider();
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            cli::print_error(&error);
            ExitCode::FAILURE
        }
    }
}
