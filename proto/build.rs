//! Compiles the `.proto` files without `protoc`, and keeps their descriptors for reflection.

use std::{env, error::Error, fs, path::PathBuf};

const OURS: [&str; 6] = ["access", "features", "registry", "serving", "evaluator", "pipelines"];
const FEASTS: [&str; 4] = ["types", "core", "registry", "serving"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let ours = OURS.iter().map(|name| root.join(format!("millpond/{name}.proto")));
    let feasts = FEASTS.iter().map(|name| root.join(format!("feast/{name}.proto")));
    let files: Vec<PathBuf> = ours.chain(feasts).collect();
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let descriptors = protox::compile(&files, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let encoded = prost::Message::encode_to_vec(&descriptors);
    fs::write(out.join("descriptors.bin"), encoded)?;
    tonic_prost_build::configure().build_client(true).build_server(true).compile_fds(descriptors)?;
    Ok(())
}
