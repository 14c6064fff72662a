//! Compiles the part of Spark Connect's protocol that is used here, without `protoc`.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("proto");
    let file = folder.join("connect.proto");
    println!("cargo:rerun-if-changed={}", file.display());
    tonic_prost_build::configure()
        .build_client(true)
        // For servers of tests.
        .build_server(true)
        .compile_fds(protox::compile([&file], [&folder])?)?;
    Ok(())
}
