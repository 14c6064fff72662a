//! Feature references: `view:feature`, `view@v2:feature`, `view@latest:feature`.

use feature_store::{FeatureStore, Selection};

use super::{Class, Refusal};

/// One reference, as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    pub view: &'a str,
    pub feature: &'a str,
    /// `None`: the newest.
    pub version: Option<u64>,
}

impl<'a> Reference<'a> {
    /// # Errors
    /// Says how a reference is written.
    pub fn parse(text: &'a str) -> Result<Self, Refusal> {
        let wrong = || Refusal::unfit(Class::General, format!("`{text}` names no feature: write `view:feature`"));
        let (view, feature) =
            text.split_once(':').filter(|(view, f)| !view.is_empty() && !f.is_empty()).ok_or_else(wrong)?;
        let Some((view, version)) = view.split_once('@') else { return Ok(Self { view, feature, version: None }) };
        let version = match version {
            "latest" => None,
            other => {
                let digits = other.strip_prefix('v').or_else(|| other.strip_prefix('V')).and_then(|v| v.parse().ok());
                let wrong = || format!("`{text}` names no version: write `view@v2:feature` or `view@latest:feature`");
                Some(digits.ok_or_else(|| Refusal::unfit(Class::General, wrong()))?)
            }
        };
        Ok(Self { view, feature, version })
    }
}

/// The features that a request names, in its order.
///
/// # Errors
/// What cannot be read or does not exist; a version that is not the one that stands; two features that would answer
/// under one name.
pub async fn choose(features: &FeatureStore, texts: &[String], full_names: bool) -> Result<Selection, Refusal> {
    let mut wanted = Vec::with_capacity(texts.len());
    for text in texts {
        let reference = Reference::parse(text)?;
        if let Some(version) = reference.version {
            stands(features, reference.view, version).await?;
        }
        wanted.push((reference.view, reference.feature));
    }
    if wanted.is_empty() {
        return Err(Refusal::unfit(
            Class::General,
            "no features are asked for: name some in `features`, or a `feature_service`",
        ));
    }
    for (at, (view, feature)) in wanted.iter().enumerate() {
        let clash = wanted[..at].iter().find(|(other, same)| same == feature && (!full_names || other == view));
        if let Some((other, _)) = clash {
            return Err(collision(other, view, feature));
        }
    }
    Ok(features.select(&wanted)?)
}

/// The features of a service; under short names they must differ.
///
/// # Errors
/// No such service; features that would answer under one name.
pub fn choose_service(features: &FeatureStore, service: &str, full_names: bool) -> Result<Selection, Refusal> {
    let selection = features.select_service(service)?;
    if !full_names {
        let all: Vec<_> = selection.features().collect();
        for (at, one) in all.iter().enumerate() {
            if let Some(other) = all[..at].iter().find(|other| other.feature == one.feature) {
                return Err(collision(other.view.as_str(), one.view.as_str(), one.feature.as_str()));
            }
        }
    }
    Ok(selection)
}

/// The views that were chosen and their versions.
///
/// # Errors
/// What storage says.
pub async fn versions(features: &FeatureStore, selection: &Selection) -> Result<Vec<(String, u64)>, Refusal> {
    let mut versions = Vec::new();
    for view in selection.views() {
        versions.push((view.to_string(), features.view_version(view).await?));
    }
    Ok(versions)
}

fn collision(one: &str, other: &str, feature: &str) -> Refusal {
    let message = if one == other {
        format!("`{one}:{feature}` is asked for twice")
    } else {
        format!("`{one}:{feature}` and `{other}:{feature}` would have one name: set full_feature_names to true")
    };
    Refusal::unfit(Class::NameCollision, message)
}

/// Only the definition that stands is served.
async fn stands(features: &FeatureStore, view: &str, version: u64) -> Result<(), Refusal> {
    let name = view.parse().map_err(|e: domain::BadName| Refusal::not_found(Class::ViewNotFound, e.to_string()))?;
    let standing = features.view_version(&name).await?;
    if standing == version {
        return Ok(());
    }
    let message = format!("version {version} of feature view {view} is not served: version {standing} stands");
    Err(Refusal::not_found(Class::VersionNotFound, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_view_feature_and_maybe_a_version() {
        let read = |text| Reference::parse(text).map(|r| (r.view, r.version, r.feature)).map_err(|e| e.to_string());
        assert_eq!(read("pump:temp"), Ok(("pump", None, "temp")));
        assert_eq!(read("pump@v2:temp"), Ok(("pump", Some(2), "temp")));
        assert_eq!(read("pump@latest:temp"), Ok(("pump", None, "temp")));
        for wrong in ["", "pump", "pump:", ":temp", "pump@2:temp", "pump@v:temp", "pump@v-1:temp"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
