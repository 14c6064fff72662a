//! Files of this machine on their way to the server.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use domain::{Digest, Digester};
use registry::format::FILES_MAX;

use super::client::{Client, encode};

/// Where uploaded files go.
const FILES: &str = "/api/2.0/mlflow-artifacts/artifacts";
/// Folders inside folders.
const DEPTH_MAX: usize = 32;

/// Uploads a file to a path of the artifact tree.
pub fn upload(client: &Client, local: &Path, target: &str) -> anyhow::Result<()> {
    let target = target.split('/').map(encode).collect::<Vec<_>>().join("/");
    let file = File::open(local).with_context(|| format!("could not open `{}`", local.display()))?;
    client.upload(&format!("{FILES}/{target}"), file, &digest(local)?)?;
    Ok(())
}

fn digest(path: &Path) -> anyhow::Result<Digest> {
    let read = || -> std::io::Result<Digest> {
        let (mut file, mut digester, mut buffer) = (File::open(path)?, Digester::default(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(digester.finish()),
                count => digester.update(&buffer[..count]),
            }
        }
    };
    read().with_context(|| format!("could not read `{}`", path.display()))
}

/// The files below a folder by their path in it. Links, and what is no file, are refused.
pub fn below(folder: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    walk(folder, "", 0, &mut files)?;
    Ok(files)
}

fn walk(folder: &Path, prefix: &str, depth: usize, files: &mut BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    ensure!(depth < DEPTH_MAX, "`{}` lies deeper than {DEPTH_MAX} folders", folder.display());
    let shown = || format!("could not list `{}`", folder.display());
    for entry in fs::read_dir(folder).with_context(shown)? {
        let entry = entry.with_context(shown)?;
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_str().with_context(|| format!("`{}` has a name that is not UTF-8", path.display()))?;
        let kind = entry.file_type().with_context(shown)?;
        if kind.is_dir() {
            walk(&path, &format!("{prefix}{name}/"), depth + 1, files)?;
        } else if kind.is_file() {
            files.insert(format!("{prefix}{name}"), path);
            ensure!(files.len() <= FILES_MAX, "there are more than {FILES_MAX} files in the directory");
        } else {
            bail!("`{}` is a link or no file: a model is made of files only", path.display());
        }
    }
    Ok(())
}
