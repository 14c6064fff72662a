//! A store that goes away, and objects that are not what they were.

use std::{fs, io::Write as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use storage::testing::S3;

use crate::{
    FILES,
    bucket::{Shared, store},
    direct::Upload,
    eventually, get, listed, noise, put,
    raw::{connect, head, reply, send},
    run,
    support::millpond,
};

#[test]
fn a_store_that_goes_away_in_the_middle_is_a_503_and_nothing_is_lost() {
    let store = store();
    let shared = Shared::within(store);
    let data = tempfile::tempdir().expect("a directory");
    let server = shared.start(data.path());
    let (id, root) = run(&server);
    let kept = noise(200_000, 1);
    put(&server, &format!("{root}/kept"), &kept).ok();
    let large = noise(20 << 20, 2);
    put(&server, &format!("{root}/large"), &large).ok();
    let version = |contents: &str| {
        let files = json!({"model.onnx": STANDARD.encode(contents)});
        let new = json!({"run": id, "files": files, "signature": {"inputs": [], "outputs": []}});
        server.post("/api/v1/models/paper/versions", &new)
    };
    assert_eq!(version("one").ok()["version"], 1);
    let seen = listed(&server, &root);

    // In the middle of an upload.
    let other = noise(20 << 20, 3);
    let mut stream = connect(&server);
    let length = other.len().to_string();
    let address = format!("{FILES}/{root}/other");
    stream.write_all(head(&server, "PUT", &address, &[("content-length", &length)]).as_bytes()).expect("sent");
    stream.write_all(&other[..12 << 20]).expect("sent");
    store.down();
    stream.write_all(&other[12 << 20..]).expect("sent");
    let said = reply(stream).expect("an answer").refused(503, "TEMPORARILY_UNAVAILABLE");
    assert!(S3::secrets().iter().all(|secret| !said.contains(secret)), "{said}");

    put(&server, &format!("{root}/small"), b"small").refused(503, "TEMPORARILY_UNAVAILABLE");
    get(&server, &format!("{root}/kept")).refused(503, "TEMPORARILY_UNAVAILABLE");
    let presigned = format!("/api/2.0/mlflow-artifacts/presigned/{root}/kept");
    send(&server, "GET", &presigned, &[], b"").refused(503, "TEMPORARILY_UNAVAILABLE");
    version("two").problem(503, "unavailable");
    // What needs no file is served.
    assert_eq!(listed(&server, &root), seen);
    assert_eq!(server.get("/readyz").status, 200);

    store.up();
    assert_eq!(listed(&server, &root), seen);
    put(&server, &format!("{root}/other"), &other).ok();
    assert!(get(&server, &format!("{root}/other")).ok().body == other);
    assert!(get(&server, &format!("{root}/kept")).ok().body == kept);
    assert_eq!(version("two").ok()["version"], 2, "no number was spent");

    // In the middle of a completion.
    let parts: Vec<&[u8]> = large.chunks(5 << 20).collect();
    let upload = Upload::create(&server, &root, "direct", parts.len()).expect("an answer");
    let sent: Vec<_> = (1..).zip(&parts).map(|(number, part)| upload.send(number, part)).collect();
    store.down();
    let complete = || upload.ask("complete", &json!({"parts": sent})).expect("an answer");
    complete().refused(503, "TEMPORARILY_UNAVAILABLE");
    store.up();
    complete().ok();
    assert!(get(&server, &format!("{root}/direct")).ok().body == large);

    // In the middle of a download: the connection ends before the file does.
    let mut stream = connect(&server);
    stream.write_all(head(&server, "GET", &format!("{FILES}/{root}/large"), &[]).as_bytes()).expect("sent");
    let mut first = [0; 1000];
    std::io::Read::read_exact(&mut stream, &mut first).expect("it begins");
    store.down();
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
    assert!(rest.len() < large.len() - first.len(), "{} bytes came of a store that is away", rest.len());
    store.up();
    assert!(get(&server, &format!("{root}/large")).ok().body == large);

    // One that hangs is given up, too.
    store.freeze();
    let asked = std::time::Instant::now();
    get(&server, &format!("{root}/kept")).refused(503, "TEMPORARILY_UNAVAILABLE");
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    store.thaw();
    assert!(get(&server, &format!("{root}/kept")).ok().body == kept);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_server_says_in_a_line_why_it_cannot_use_its_bucket() {
    let shared = Shared::new();
    let data = tempfile::tempdir().expect("a directory");
    for (setting, expected) in [
        ("objects.url=s3://absent/x", "there is none of that name"),
        ("objects.secret_key=wrong", "the credentials were refused"),
        ("objects.secret_key=", "set both, or none"),
        ("objects.endpoint=http://127.0.0.1:1", "could not reach bucket"),
        ("objects.access_key= objects.secret_key=", "no credentials were found"),
    ] {
        let flags: Vec<&str> = setting.split(' ').flat_map(|setting| ["--set", setting]).collect();
        let said = shared.refused(data.path(), &flags);
        assert!(said.contains(expected), "{setting}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(S3::secrets().iter().all(|secret| !said.contains(secret)), "{said}");
    }
}

#[test]
fn a_bucket_in_use_by_another_database_is_left_alone() {
    let shared = Shared::new();
    let (first, second) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let server = shared.start(first.path());
    let said = shared.refused(second.path(), &["--set", "metadata.url="]);
    assert!(said.contains("belongs to another installation"), "{said}");
    assert!(said.contains("objects.url") && said.trim_end().lines().count() == 1, "{said}");
    server.get("/readyz").ok();
}

#[test]
fn keys_are_shown_nowhere() {
    let keys = S3::secrets().map(str::to_owned);
    let settings = [format!("objects.access_key={}", keys[0]), format!("objects.secret_key={}", keys[1])];
    let flags: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    for form in [&["config", "show"][..], &["config", "show", "--json"]] {
        let shown = millpond(&[form, &flags].concat());
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("objects.secret_key") && shown.contains("***"), "{shown}");
        assert!(keys.iter().all(|key| !shown.contains(key)), "{shown}");
    }
}

#[test]
fn a_flipped_bit_is_data_loss_and_storing_the_file_again_heals_it() {
    let shared = Shared::new();
    let data = tempfile::tempdir().expect("a directory");
    let server = shared.start(data.path());
    let (_, root) = run(&server);
    for (name, length) in [("small", 5000), ("large", 9 << 20)] {
        let body = noise(length, 8);
        let path = format!("{root}/{name}");
        put(&server, &path, &body).ok();
        let object = shared.object(&body);
        let mut flipped = fs::read(&object).expect("it is there");
        flipped[length / 2] ^= 4;
        fs::write(&object, &flipped).expect("it can be written");
        if name == "small" {
            get(&server, &path).refused(500, "DATA_LOSS");
        } else {
            let got = get(&server, &path);
            assert!(got.body.len() < length, "the end of a damaged file never comes");
        }
        fs::write(&object, &flipped[..length - 1]).expect("it can be written");
        get(&server, &path).refused(500, "DATA_LOSS");
        let presigned = format!("/api/2.0/mlflow-artifacts/presigned/{path}");
        send(&server, "GET", &presigned, &[], b"").refused(500, "DATA_LOSS");
        fs::remove_file(&object).expect("it can be removed");
        get(&server, &path).refused(500, "DATA_LOSS");
        put(&server, &path, &body).ok();
        assert!(get(&server, &path).ok().body == body);
        fs::write(&object, &flipped).expect("it can be written");
        put(&server, &path, &body).ok();
        assert!(get(&server, &path).ok().body == body, "also over what is there and damaged");
    }
    eventually("nothing staged to be left", || {
        fs::read_dir(shared.folder().join("staging")).ok()?.next().is_none().then_some(())
    });
}
