//! Which tables there are.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    catalog::{CatalogProvider, SchemaProvider, TableProvider},
    error::{DataFusionError, Result as DataFusionResult},
};
use domain::ErrorCode;
use tokio::runtime::Handle;

use crate::table::{Fault, Provider, Rows, external};

/// The tables that a caller may read. Only those that a question names are opened.
#[async_trait]
pub trait Catalogue: Send + Sync + 'static {
    /// The schemas, in order of name.
    fn schemas(&self) -> Vec<String>;

    /// The tables of a schema, in order of name; none of a schema that does not exist.
    fn tables(&self, schema: &str) -> Vec<String>;

    /// Opens a table; `None` where there is none of that name.
    async fn open(&self, schema: &str, table: &str) -> Result<Option<Arc<dyn Rows>>, Fault>;
}

/// A catalogue for the planner.
pub(crate) struct Tables {
    catalogue: Arc<dyn Catalogue>,
    home: Handle,
}

impl Tables {
    pub(crate) fn new(catalogue: Arc<dyn Catalogue>, home: Handle) -> Self {
        Self { catalogue, home }
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl CatalogProvider for Tables {
    fn schema_names(&self) -> Vec<String> {
        self.catalogue.schemas()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let known = self.catalogue.schemas().iter().any(|schema| schema == name);
        known.then(|| {
            let (catalogue, home) = (self.catalogue.clone(), self.home.clone());
            Arc::new(OneSchema { catalogue, home, name: name.to_owned() }) as Arc<dyn SchemaProvider>
        })
    }
}

struct OneSchema {
    catalogue: Arc<dyn Catalogue>,
    home: Handle,
    name: String,
}

impl fmt::Debug for OneSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneSchema").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for OneSchema {
    fn table_names(&self) -> Vec<String> {
        self.catalogue.tables(&self.name)
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let (catalogue, schema, table) = (self.catalogue.clone(), self.name.clone(), name.to_owned());
        let opening = self.home.spawn(async move { catalogue.open(&schema, &table).await });
        let opened = opening.await.unwrap_or_else(|error| {
            Err(Fault {
                code: ErrorCode::Internal,
                message: format!("a table did not open: {error}"),
                hint: String::new(),
            })
        });
        let rows = opened.map_err(external)?;
        Ok(rows.map(|rows| Arc::new(Provider::new(rows, self.home.clone())) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.catalogue.tables(&self.name).iter().any(|table| table == name)
    }
}
