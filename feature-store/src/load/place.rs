//! Which files of the server's disk are meant, and whether they may be read.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use crate::{error::FeatureError, pieces, report::Format};

/// Files of one load.
const FILES_MAX: usize = 100_000;

/// The files that are meant, in order of their names: below an allowed folder, with links followed, of a known format.
///
/// # Errors
/// `Load` says what is wrong with the path; of what lies elsewhere it tells nothing.
pub(super) async fn find(folders: &[PathBuf], path: &str) -> Result<Vec<PathBuf>, FeatureError> {
    let (folders, path) = (folders.to_vec(), path.to_owned());
    let found = tokio::task::spawn_blocking(move || look(&folders, &path)).await;
    found.unwrap_or_else(|_| Err(refused("the search for files died".into())))
}

fn refused(reason: String) -> FeatureError {
    FeatureError::Load { reason }
}

fn look(folders: &[PathBuf], text: &str) -> Result<Vec<PathBuf>, FeatureError> {
    if folders.is_empty() {
        return Err(refused(
            "loading files is off: set ingestion.paths to the folders that files may come from".into(),
        ));
    }
    let path = Path::new(text);
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if text.contains('\0') || !path.is_absolute() || !path.components().all(plain) {
        return Err(refused(format!("`{}` is not a whole path without `..`", text.escape_default())));
    }
    // The same words whether it is not there or not ours to show.
    let outside = || refused(format!("`{text}` is not below one of the folders of ingestion.paths, or does not exist"));
    let folders: Vec<PathBuf> = folders.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
    let inside =
        |path: &Path| path.canonicalize().ok().filter(|real| folders.iter().any(|folder| real.starts_with(folder)));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut files = Vec::new();
    if let Some(real) = inside(path) {
        if real.is_file() {
            format_of(&real).ok_or_else(|| refused(format!("`{text}`: files end in {FORMATS}")))?;
            return Ok(vec![real]);
        }
        list(&real, None, &inside, &mut files).map_err(|e| refused(format!("`{text}` cannot be listed: {e}")))?;
    } else if name.contains(['*', '?']) {
        let real = path.parent().and_then(inside).filter(|folder| folder.is_dir()).ok_or_else(outside)?;
        list(&real, Some(name), &inside, &mut files).map_err(|e| refused(format!("`{text}` cannot be listed: {e}")))?;
    } else {
        return Err(outside());
    }
    if files.is_empty() {
        return Err(refused(format!("`{text}` names no files that end in {FORMATS}")));
    }
    if files.len() > FILES_MAX {
        return Err(refused(format!("`{text}` names {} files, at most {FILES_MAX} are loaded together", files.len())));
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn list(
    folder: &Path,
    pattern: Option<&str>,
    inside: &impl Fn(&Path) -> Option<PathBuf>,
    files: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        if pattern.is_some_and(|pattern| !pieces::name_matches(pattern, &name.to_string_lossy())) {
            continue;
        }
        let real = inside(&entry.path()).filter(|real| real.is_file() && format_of(real).is_some());
        files.extend(real);
    }
    Ok(())
}

const FORMATS: &str = ".csv, .jsonl, .ndjson or .parquet";

/// The format that a file's name tells.
pub(super) fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "csv" => Some(Format::Csv),
        "jsonl" | "ndjson" => Some(Format::JsonLines),
        "parquet" => Some(Format::Parquet),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_really_lies_below_an_allowed_folder_is_found() {
        let home = tempfile::tempdir().unwrap();
        let (open, shut) = (home.path().join("open"), home.path().join("shut"));
        for folder in [&open, &shut] {
            std::fs::create_dir(folder).unwrap();
            for file in ["b.csv", "a.csv", "c.parquet", "notes.txt"] {
                std::fs::write(folder.join(file), "x").unwrap();
            }
        }
        symlink(shut.join("a.csv"), open.join("link.csv")).unwrap();
        symlink(&shut, open.join("door")).unwrap();
        symlink(open.join("b.csv"), open.join("also.csv")).unwrap();
        let folders = [open.canonicalize().unwrap()];
        let look = |path: &Path| look(&folders, path.to_str().unwrap());
        let names = |found: Vec<PathBuf>| -> Vec<String> {
            found.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(look(&open).unwrap()), ["a.csv", "b.csv", "c.parquet"]);
        assert_eq!(names(look(&open.join("*.csv")).unwrap()), ["a.csv", "b.csv"]);
        assert_eq!(names(look(&open.join("?.p*")).unwrap()), ["c.parquet"]);
        assert_eq!(names(look(&open.join("also.csv")).unwrap()), ["b.csv"]);
        for (path, word) in [
            (open.join("link.csv"), "is not below one of the folders"),
            (open.join("door"), "is not below one of the folders"),
            (open.join("door/*.csv"), "is not below one of the folders"),
            (shut.join("a.csv"), "is not below one of the folders"),
            (shut.join("nothing.csv"), "is not below one of the folders"),
            (open.join("../shut/a.csv"), "without `..`"),
            (PathBuf::from("a.csv"), "is not a whole path"),
            (open.join("notes.txt"), "files end in .csv"),
            (open.join("*.txt"), "names no files"),
        ] {
            let error = look(&path).unwrap_err().to_string();
            assert!(error.contains(word), "{}: {error}", path.display());
        }
        assert!(super::look(&[], "/etc").unwrap_err().to_string().contains("ingestion.paths"));
    }
}
