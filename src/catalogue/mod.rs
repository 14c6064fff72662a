//! What can be asked in SQL: the rooms' own rows as tables of one catalogue.
//!
//! | schema | tables |
//! |---|---|
//! | `public` | `experiments`, `runs`, `params`, `tags`, `metrics`, `latest_metrics`, `models`, `versions`, `aliases`, `predictions`, `scores`, `labels` |
//! | `sources` | the rows of each source that stand |
//! | `features` | the rows of each plain feature view: keys, `event_timestamp`, features |

mod log;
mod made;
mod registry;
mod sources;

use std::sync::Arc;

use async_trait::async_trait;
use domain::definition::Definition;
use sql::{Catalogue, Fault, Rows};

use crate::app::App;
use log::LOG_TABLES;
use registry::RegistryTable;

const PUBLIC: &str = "public";
const SOURCES: &str = "sources";
const FEATURES: &str = "features";

/// The tables of one project.
#[derive(Clone)]
pub struct Tables(App);

impl Tables {
    #[must_use]
    pub fn of(app: &App) -> Arc<dyn Catalogue> {
        Arc::new(Self(app.clone()))
    }
}

#[async_trait]
impl Catalogue for Tables {
    fn schemas(&self) -> Vec<String> {
        [FEATURES, PUBLIC, SOURCES].map(str::to_owned).to_vec()
    }

    fn tables(&self, schema: &str) -> Vec<String> {
        let definitions = || self.0.features.definitions().into_iter();
        let mut names: Vec<String> = match schema {
            PUBLIC => {
                let registry = RegistryTable::ALL.iter().map(|table| table.name());
                registry.chain(LOG_TABLES.iter().map(|(name, _)| *name)).map(str::to_owned).collect()
            }
            SOURCES => definitions()
                .filter_map(|definition| match definition {
                    Definition::Source(source) => Some(source.name.to_string()),
                    _ => None,
                })
                .collect(),
            FEATURES => definitions()
                .filter_map(|definition| match definition {
                    Definition::FeatureView(view) if view.aggregations.is_empty() => Some(view.name.to_string()),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        names.sort_unstable();
        names
    }

    async fn open(&self, schema: &str, table: &str) -> Result<Option<Arc<dyn Rows>>, Fault> {
        // A name that no definition can have is the name of nothing.
        match schema {
            PUBLIC => {
                if let Some(known) = RegistryTable::ALL.into_iter().find(|known| known.name() == table) {
                    return Ok(Some(known.rows(&self.0.registry)));
                }
                let known = LOG_TABLES.iter().find(|(name, _)| *name == table);
                Ok(known.map(|(_, what)| log::rows(&self.0.evaluator, *what)))
            }
            SOURCES => match table.parse() {
                Ok(name) if self.tables(schema).iter().any(|known| known == table) => {
                    sources::of_source(&self.0.features, &name).map(Some)
                }
                _ => Ok(None),
            },
            FEATURES => match table.parse() {
                Ok(name) if self.tables(schema).iter().any(|known| known == table) => {
                    sources::of_view(&self.0.features, &name).map(Some)
                }
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }
}
