//! Where files of an MLflow store lie: on this machine, and on the server once they are there.

use std::path::{Path, PathBuf};

/// The folder that `--artifacts` names.
pub struct Places {
    root: PathBuf,
    /// Without links, as the store may have written it.
    real: PathBuf,
}

/// The last name of the folder of every run and logged model.
const ARTIFACTS: &str = "artifacts";

impl Places {
    pub fn new(root: &Path) -> std::io::Result<Self> {
        Ok(Self { root: root.to_owned(), real: root.canonicalize()? })
    }

    /// The folder that an artifact location of the store stands for, or why it is none of this machine's.
    pub fn local(&self, uri: &str) -> Result<PathBuf, String> {
        let path = match uri.split_once(':') {
            Some(("mlflow-artifacts", rest)) => match rest.strip_prefix("//") {
                Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
                None => rest,
            },
            Some(("file", rest)) => rest.strip_prefix("//").unwrap_or(rest),
            Some((scheme, _)) if scheme.len() > 1 && !scheme.contains('/') => {
                return Err(format!("its files lie in {scheme}:, which is not looked into"));
            }
            _ => uri,
        };
        let inside = [&self.root, &self.real].into_iter().find_map(|root| Path::new(path).strip_prefix(root).ok());
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") {
            return Err("its artifact location leads out of itself".into());
        }
        // `<experiment>/<run>/artifacts` and `<experiment>/models/<model>/artifacts`, wherever that was.
        let tails = [3, 4]
            .into_iter()
            .filter_map(|count| parts.len().checked_sub(count))
            .map(|from| parts[from..].iter().collect());
        let tails = inside.map(Path::to_owned).into_iter().chain([parts.iter().collect()]).chain(tails);
        let mut found = tails.map(|tail: PathBuf| self.root.join(tail)).filter(|folder| folder.is_dir());
        found.next().ok_or_else(|| "its folder is not below --artifacts".into())
    }
}

/// Where a run's files are on the server, in its artifact tree.
pub fn of_run(experiment: i64, run: &str) -> String {
    format!("{experiment}/{run}/{ARTIFACTS}")
}

/// Where a logged model's files are on the server, in its artifact tree.
pub fn of_logged_model(experiment: i64, model: &str) -> String {
    format!("{experiment}/models/{model}/{ARTIFACTS}")
}

/// The source of a version as this server takes it; `experiment_of` knows the runs that are there.
pub fn source(texts: [Option<&str>; 2], experiment_of: impl Fn(&str) -> Option<i64>) -> Option<String> {
    texts.into_iter().flatten().find_map(|text| {
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        match scheme {
            "models" | "runs" => return Some(text.to_owned()),
            "" | "file" | "mlflow-artifacts" => {}
            drive if drive.len() == 1 || drive.contains('/') => {}
            // An address in another store is kept as it is.
            _ => return Some(text.to_owned()),
        }
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        let at = parts.iter().position(|part| *part == ARTIFACTS)?;
        let owner = parts[at.checked_sub(1)?];
        let below = parts[at + 1..].iter().map(|part| format!("/{part}")).collect::<String>();
        if owner.starts_with("m-") && below.is_empty() {
            return Some(format!("models:/{owner}"));
        }
        let experiment = experiment_of(owner)?;
        Some(format!("mlflow-artifacts:/{}{below}", of_run(experiment, owner)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_folder_is_found_wherever_the_store_had_it() {
        let root = tempfile::tempdir().expect("a directory");
        let run = root.path().join("3").join(RUN).join(ARTIFACTS);
        let model = root.path().join("3/models/m-1/artifacts");
        for folder in [&run, &model] {
            std::fs::create_dir_all(folder).expect("made");
        }
        let places = Places::new(root.path()).expect("it is there");
        for uri in [
            format!("mlflow-artifacts:/3/{RUN}/artifacts"),
            format!("mlflow-artifacts://host:5000/3/{RUN}/artifacts"),
            format!("/var/elsewhere/mlartifacts/3/{RUN}/artifacts"),
            format!("file:///srv/mlruns/3/{RUN}/artifacts"),
            format!("./mlruns/3/{RUN}/artifacts"),
            run.display().to_string(),
        ] {
            assert_eq!(places.local(&uri), Ok(run.clone()), "{uri}");
        }
        assert_eq!(places.local("/x/3/models/m-1/artifacts"), Ok(model));
        for (uri, word) in [
            (format!("s3://bucket/3/{RUN}/artifacts"), "s3:"),
            (format!("mlflow-artifacts:/4/{RUN}/artifacts"), "not below"),
            (format!("/x/../3/{RUN}/artifacts"), "leads out"),
        ] {
            assert!(places.local(&uri).unwrap_err().contains(word), "{uri}");
        }
    }

    #[test]
    fn a_source_is_said_as_this_server_takes_it() {
        let known = |run: &str| (run == RUN).then_some(3);
        let said = |text: &str| source([Some(text), None], known);
        let kept = format!("mlflow-artifacts:/3/{RUN}/artifacts/model");
        assert_eq!(said(&format!("/srv/mlruns/3/{RUN}/artifacts/model")), Some(kept.clone()));
        assert_eq!(said(&format!("file:///srv/mlruns/3/{RUN}/artifacts/model")), Some(kept.clone()));
        assert_eq!(said(&format!("mlflow-artifacts:/3/{RUN}/artifacts/model")), Some(kept.clone()));
        assert_eq!(said("/srv/3/models/m-1/artifacts"), Some("models:/m-1".into()));
        for same in ["models:/m-1", "runs:/x/model", "s3://bucket/model"] {
            assert_eq!(said(same), Some(same.into()));
        }
        assert_eq!(said("/tmp/model"), None);
        assert_eq!(source([Some("/tmp/model"), Some(&kept)], known), Some(kept));
    }
}
