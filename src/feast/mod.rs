//! What Feast's clients and our feature store have to agree on: names of features, tables by column, errors.
//!
//! `http::feast`, `grpc::flight` and `grpc::feast` speak the protocols; they share this.

pub mod columns;
pub mod entities;
pub mod materialise;
pub mod objects;
pub mod push;
pub mod python;
pub mod reference;
pub mod refusal;

pub use refusal::{Class, Refusal};

/// Routes of Feast's feature server, for whose clients refusals have Feast's form.
const ROUTES: [&str; 5] =
    ["/get-online-features", "/write-to-online-store", "/push", "/materialize", "/materialize-incremental"];

/// Whether Feast's clients call this path of REST.
pub fn is_ours(path: &str) -> bool {
    ROUTES.contains(&path)
}

/// Refuses a request that names another project than the one its token opens.
#[must_use]
pub fn other_project(asked: &str, open: &domain::ProjectName) -> Refusal {
    let message = format!(
        "project `{asked}` is not open here: this token, or this server without one, opens `{open}`: write \
         `project: {open}` in feature_store.yaml, or send a token of that project"
    );
    Refusal::not_found(Class::ProjectNotFound, message)
}
