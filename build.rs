//! Compiles `proto/` without `protoc`, and writes the descriptor set that reflection serves.

use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message as _;

const ROOT: &str = "proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    println!("cargo:rerun-if-changed=migrations");
    let mut files = Vec::new();
    collect(Path::new(ROOT), &mut files)?;
    files.sort();

    let descriptors = protox::compile(&files, [ROOT])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("halyard.bin"), descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        .codec_path("crate::rpc::codec::Codec")
        .compile_fds(descriptors)?;
    watch_server(&out)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

/// The server's side of the watch service once more, with a codec that sends messages encoded beforehand: many streams share one
/// encoding.
fn watch_server(out: &Path) -> std::io::Result<()> {
    let streaming = |name: &str, route: &str, codec: &str| {
        tonic_build::manual::Method::builder()
            .name(name)
            .route_name(route)
            .input_type(format!("crate::pb::evaluation::v1::{route}Request"))
            .output_type("bytes::Bytes")
            .codec_path(format!("crate::rpc::watch::{codec}"))
            .server_streaming()
            .build()
    };
    let acknowledge = tonic_build::manual::Method::builder()
        .name("acknowledge")
        .route_name("Acknowledge")
        .input_type("crate::pb::evaluation::v1::AcknowledgeRequest")
        .output_type("crate::pb::evaluation::v1::AcknowledgeResponse")
        .codec_path("crate::rpc::codec::Codec")
        .build();
    let service = tonic_build::manual::Service::builder()
        .name("WatchService")
        .package("halyard.evaluation.v1")
        .method(streaming("watch", "Watch", "ItemsCodec"))
        .method(streaming("watch_evaluations", "WatchEvaluations", "AnswersCodec"))
        .method(acknowledge)
        .build();
    let shared = out.join("shared");
    fs::create_dir_all(&shared)?;
    tonic_build::manual::Builder::new()
        .build_client(false)
        .out_dir(shared)
        .compile(&[service]);
    Ok(())
}
