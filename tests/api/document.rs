//! The OpenAPI document.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use crate::{
    SERVER, page,
    support::{
        root,
        sensors::{items, json_of, text},
    },
};

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

fn document() -> Value {
    serde_json::from_str(&page("/openapi.json").text).expect("JSON")
}

/// Path, method and operation of everything the document lists.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    paths
        .iter()
        .flat_map(|(path, item)| METHODS.iter().map(move |method| (path.as_str(), *method, &item[*method])))
        .filter(|(_, _, operation)| !operation.is_null())
        .collect()
}

/// The names in the braces of a path.
fn placeholders(path: &str) -> BTreeSet<&str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect()
}

#[test]
fn every_operation_of_the_document_is_named_described_and_tells_its_answers() {
    let document = document();
    assert!(text(&document["openapi"]).starts_with("3.1"));
    let tags: BTreeSet<&str> = items(&document["tags"]).iter().map(|tag| text(&tag["name"])).collect();
    let problem = &document["components"]["schemas"]["Problem"];
    assert_eq!(items(&problem["required"]), [json!("status"), json!("code"), json!("detail")]);

    let operations = operations(&document);
    assert!(operations.len() > 30, "{}", operations.len());
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations {
        let at = format!("{method} {path}");
        assert!(ids.insert(text(&operation["operationId"])), "{at}: its operationId is used twice");
        assert!(text(&operation["summary"]).len() > 3, "{at}");
        assert!(!items(&operation["tags"]).is_empty(), "{at}");
        assert!(items(&operation["tags"]).iter().all(|tag| tags.contains(text(tag))), "{at}: an undeclared tag");

        let responses = operation["responses"].as_object().expect("responses");
        assert!(responses.keys().any(|status| status.starts_with('2')), "{at}: no success");
        assert!(responses.contains_key("4XX"), "{at}: no failure");
        for (status, response) in responses {
            assert!(!text(&response["description"]).is_empty(), "{at} {status}");
            if !status.starts_with('2') {
                let content = response["content"].as_object().expect("content");
                if items(&operation["tags"]).contains(&json!("feast")) {
                    assert_eq!(content["application/json"]["schema"]["type"], "string", "{at} {status}");
                    continue;
                }
                assert_eq!(content.keys().collect::<Vec<_>>(), ["application/problem+json"], "{at} {status}");
                let schema = &content["application/problem+json"]["schema"];
                assert_eq!(schema["$ref"], "#/components/schemas/Problem", "{at} {status}");
            }
        }
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
        let described: BTreeSet<&str> = in_path
            .inspect(|parameter| {
                assert_eq!(parameter["required"], true, "{at}: {parameter}");
                assert!(!text(&parameter["description"]).is_empty(), "{at}: {parameter}");
            })
            .map(|parameter| text(&parameter["name"]))
            .collect();
        assert_eq!(described, placeholders(path), "{at}");
    }
}

#[test]
fn the_document_lists_every_route_there_is_and_no_other() {
    let document = document();
    let mut written = BTreeSet::new();
    // The other folders serve APIs that are described elsewhere, such as MLflow's.
    let folders = ["src/http", "src/http/access", "src/http/feast"]
        .map(|folder| fs::read_dir(root().join(folder)).expect("sources"));
    let files = folders.into_iter().flatten().map(|file| file.expect("an entry").path());
    for file in files.filter(|path| path.is_file()) {
        let source = fs::read_to_string(file).expect("UTF-8");
        written.extend(source.split("path = \"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        let plain = source.split(".route(\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0));
        assert!(plain.into_iter().all(|path| !path.starts_with("/api")), "a route of the API beside the document");
    }
    let listed: BTreeSet<String> = document["paths"].as_object().expect("paths").keys().cloned().collect();
    assert_eq!(written, listed);

    for (path, method, _) in operations(&document) {
        let filled =
            placeholders(path).iter().fold(path.to_owned(), |path, name| path.replace(&format!("{{{name}}}"), "1"));
        let answer = SERVER.call(&method.to_uppercase(), &filled, "application/json", b"nothing that anybody takes");
        let detail = answer.body["detail"].as_str().unwrap_or("").to_owned();
        let missing = detail.starts_with("no route") || answer.status == 405 || answer.status >= 500;
        assert!(!missing, "{method} {filled}: {} {detail}", answer.status);
    }
    SERVER.get("/api/v1/nothing").problem(404, "not_found");
    assert_eq!(json_of(&["openapi"]), document, "the command prints the same document");
}
