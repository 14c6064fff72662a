//! Materialisation as Feast asks for it.
//!
//! Rows go online as they are ingested, so there is nothing to copy. What Feast's callers want to know after a
//! materialisation is that the range is served: that is checked, entity by entity, and mended where it does not hold.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{ErrorCode, Timestamp, ViewName, definition::Definition};
use feature_store::{FeatureStore, Stretch};
use serde::Deserialize;

use super::{Class, Refusal, columns};

/// What a caller asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    #[serde(default)]
    start_ts: Option<String>,
    #[serde(default)]
    end_ts: Option<String>,
    /// Absent: all of them.
    #[serde(default)]
    feature_views: Option<Vec<String>>,
    #[serde(default)]
    disable_event_timestamp: bool,
    /// Of no meaning here: names of online values have always both parts.
    #[serde(default, rename = "full_feature_names")]
    _full_feature_names: bool,
    #[serde(default)]
    version: Option<String>,
}

/// Views and the stretch that is to be online.
#[derive(Debug, Clone)]
pub struct Job {
    pub views: Vec<ViewName>,
    stretch: Stretch,
}

impl Request {
    /// `incremental`: from wherever it was to `end_ts`.
    ///
    /// # Errors
    /// Unknown views; times that are missing, cannot be read or stand the wrong way round.
    pub async fn read(self, features: &FeatureStore, incremental: bool) -> Result<Job, Refusal> {
        let time = |name: &str, text: Option<&String>| {
            let read = text.map(|text| columns::parse(text)).transpose();
            read.map_err(|why| Refusal::unfit(Class::General, format!("{name}: {why}")))
        };
        let (from, to) = (time("start_ts", self.start_ts.as_ref())?, time("end_ts", self.end_ts.as_ref())?);
        let views = self.views(features)?;
        if let Some(version) = &self.version {
            standing(features, &views, version).await?;
        }
        if self.disable_event_timestamp && !incremental {
            return Ok(Job { views, stretch: Stretch::default() });
        }
        let Some(to) = to else { return Err(Refusal::unfit(Class::General, "end_ts is missing")) };
        if incremental {
            return Ok(Job { views, stretch: Stretch { from: None, to: Some(to) } });
        }
        match from {
            None => Err(Refusal::unfit(Class::General, "start_ts is missing (or set disable_event_timestamp to true)")),
            Some(from) if from >= to => {
                Err(Refusal::unfit(Class::General, format!("start_ts ({from}) is not before end_ts ({to})")))
            }
            Some(from) => Ok(Job { views, stretch: Stretch { from: Some(from), to: Some(to) } }),
        }
    }

    fn views(&self, features: &FeatureStore) -> Result<Vec<ViewName>, Refusal> {
        let Some(names) = &self.feature_views else {
            let all = features.definitions().into_iter();
            return Ok(all
                .filter_map(|d| if let Definition::FeatureView(view) = d { Some(view.name) } else { None })
                .collect());
        };
        let read = |name: &String| {
            let lawful = name.parse::<ViewName>();
            let name = lawful.map_err(|e| Refusal::not_found(Class::ViewNotFound, e.to_string()))?;
            Ok(features.view(&name)?.name)
        };
        names.iter().map(read).collect()
    }
}

/// Only the definition that stands has online values.
async fn standing(features: &FeatureStore, views: &[ViewName], version: &str) -> Result<(), Refusal> {
    let [view] = views else {
        return Err(Refusal::unfit(Class::General, "a version is of one view: name exactly one in feature_views"));
    };
    let asked = version.strip_prefix('v').unwrap_or(version).parse::<u64>();
    let asked = asked.map_err(|_| Refusal::unfit(Class::General, format!("`{version}` is no version: write `v2`")))?;
    let standing = features.view_version(view).await?;
    if asked == standing {
        return Ok(());
    }
    let message = format!("version {asked} of feature view {view} is not served: version {standing} stands");
    Err(Refusal::not_found(Class::VersionNotFound, message))
}

impl Job {
    /// Checks every view, and mends what is not online.
    ///
    /// # Errors
    /// What the feature store says.
    pub async fn run(self, features: &FeatureStore, now: Timestamp) -> Result<(), Refusal> {
        // Of rows in the future nothing is served yet.
        let stretch = Stretch { to: Some(self.stretch.to.map_or(now, |to| to.min(now))), ..self.stretch };
        for view in &self.views {
            let found = features.verify_online(view, stretch).await?;
            tracing::info!(view = %found.view, entities = found.entities, rebuilt = found.rebuilt, "materialised");
        }
        Ok(())
    }
}

/// Views on which a materialisation that nobody waits for is under way.
#[derive(Debug, Clone, Default)]
pub struct UnderWay(Arc<Mutex<BTreeSet<ViewName>>>);

/// Takes views off the list when it goes.
#[derive(Debug)]
pub struct Turn {
    list: UnderWay,
    views: Vec<ViewName>,
}

impl UnderWay {
    /// Puts the views on the list. With `force` also those that stand there.
    ///
    /// # Errors
    /// `Conflict` names those that stand there already.
    pub fn begin(&self, views: &[ViewName], force: bool) -> Result<Turn, Refusal> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let busy: Vec<&str> = views.iter().filter(|view| list.contains(*view)).map(ViewName::as_str).collect();
        if !busy.is_empty() && !force {
            let message = format!("already under way for {}: wait, or ask with force=true", busy.join(", "));
            return Err(Refusal::new(ErrorCode::Conflict, Class::General, message));
        }
        let views: Vec<ViewName> = views.iter().filter(|view| !list.contains(*view)).cloned().collect();
        list.extend(views.iter().cloned());
        drop(list);
        Ok(Turn { list: self.clone(), views })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut list = self.list.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.views.iter().for_each(|view| drop(list.take(view)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_materialised_once_at_a_time_unless_forced() {
        let (list, views) = (UnderWay::default(), vec!["pump".parse().unwrap()]);
        let first = list.begin(&views, false).unwrap();
        assert!(list.begin(&views, false).unwrap_err().to_string().contains("pump"));
        drop(list.begin(&views, true).unwrap());
        assert!(list.begin(&views, false).is_err(), "who forced does not end what the first began");
        drop(first);
        assert!(list.begin(&views, false).is_ok());
    }
}
