//! The grammar, rule by rule.

use domain::Coded as _;

use crate::search::{
    Kind,
    fields::Field,
    filter::{Expr, Test, parse},
    lex::Op,
    order,
};

fn clause(kind: Kind, filter: &str) -> (String, Test) {
    match parse(kind, filter) {
        Ok(Some(Expr::Clause(field, test))) => (name(&field), test),
        other => panic!("`{filter}`: {other:?}"),
    }
}

fn name(field: &Field) -> String {
    match field {
        Field::Attribute(attribute) => attribute.names[0].to_owned(),
        Field::Kept(side, key) => format!("{}/{key}", side.table.trim_start_matches("registry_")),
        Field::Dataset(column) => format!("dataset/{column}"),
    }
}

#[track_caller]
fn reads(kind: Kind, filter: &str, field: &str, test: Test) {
    assert_eq!(clause(kind, filter), (field.to_owned(), test), "{filter}");
}

#[track_caller]
fn refused(kind: Kind, filter: &str, parts: &[&str]) {
    let error = parse(kind, filter).expect_err(filter);
    assert_eq!(error.code(), domain::ErrorCode::InvalidArgument);
    for part in parts {
        assert!(error.to_string().contains(part), "no `{part}` in `{error}` of `{filter}`");
    }
}

fn same(text: &str) -> Test {
    Test::Same(text.into())
}

#[test]
fn keys_are_bare_in_backticks_or_in_double_quotes() {
    for filter in ["tags.a = 'x'", "tag.`a` = 'x'", "tags.\"a\" = \"x\"", "`tags`.`a`='x'", " TAGS.a\n=\t'x' "] {
        reads(Kind::Runs, filter, "tags/a", same("x"));
    }
    reads(Kind::Runs, "tags.mlflow.source-name/v:1 = 'x'", "tags/mlflow.source-name/v:1", same("x"));
    reads(Kind::Runs, "params.`val loss = 'y'` = 'x'", "params/val loss = 'y'", same("x"));
    reads(Kind::Runs, "params.\"a`b\" = 'x'", "params/a`b", same("x"));
    reads(Kind::Runs, "params.`a``b` = 'it''s \"so\"'", "params/a`b", same("it's \"so\""));
    reads(Kind::Runs, "params.größe = 'ß'", "params/größe", same("ß"));
    reads(Kind::Runs, "params.1st = ''", "params/1st", same(""));
}

#[test]
fn every_spelling_of_an_entity_and_an_attribute_is_known() {
    for entity in ["metric", "metrics"] {
        let test = Test::Number(Op::Gt, 0.5);
        reads(Kind::Runs, &format!("{entity}.acc > .5"), "latest_metrics/acc", test);
    }
    for entity in ["param", "params", "parameter", "parameters"] {
        reads(Kind::Runs, &format!("{entity}.a = '1'"), "params/a", same("1"));
    }
    for key in ["attribute.", "attributes.", "attr.", "run.", ""] {
        reads(Kind::Runs, &format!("{key}status = 'RUNNING'"), "status", same("RUNNING"));
        for alias in ["run_name", "`run name`", "\"Run name\"", "`Run Name`"] {
            reads(Kind::Runs, &format!("{key}{alias} = 'x'"), "run_name", same("x"));
        }
        for alias in ["start_time", "created", "Created"] {
            reads(Kind::Runs, &format!("{key}{alias} >= 1"), "start_time", Test::Number(Op::Ge, 1.0));
        }
    }
    for (kind, filter, field) in [
        (Kind::Runs, "dataset.name = 'x'", "dataset/name"),
        (Kind::Runs, "datasets.context = 'x'", "dataset/context"),
        (Kind::Experiments, "experiment_id = 'x'", "experiment_id"),
        (Kind::Experiments, "tags.a = 'x'", "experiment_tags/a"),
        (Kind::Models, "name = 'x'", "name"),
        (Kind::Models, "tag.a = 'x'", "model_tags/a"),
        (Kind::Versions, "source_path = 'x'", "source_path"),
        (Kind::Versions, "run_id = 'x'", "run_id"),
        (Kind::LoggedModels, "source_run_id = 'x'", "source_run_id"),
        (Kind::LoggedModels, "params.a = 'x'", "logged_model_params/a"),
    ] {
        reads(kind, filter, field, same("x"));
    }
    for key in ["creation_timestamp", "creation_time", "creation_timestamp_ms"] {
        reads(Kind::LoggedModels, &format!("{key} < 5"), "creation_timestamp", Test::Number(Op::Lt, 5.0));
    }
    for status in ["LOGGED_MODEL_UPLOAD_FAILED", "UPLOAD_FAILED", "FAILED"] {
        reads(Kind::LoggedModels, &format!("status = '{status}'"), "status", same("UPLOAD_FAILED"));
    }
}

#[test]
fn operators_are_read_whatever_their_case() {
    let like = |pattern: &str, folds| Test::Like { pattern: pattern.into(), folds };
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    for (filter, test) in [
        ("params.a != 'x'", Test::Other("x".into())),
        ("params.a LIKE '%x_'", like("%x_", false)),
        ("params.a iLike '%x_'", like("%x_", true)),
        ("params.a in ('x')", Test::OneOf(list(&["x"]))),
        ("params.a NOT in ('x', \"y\",'z')", Test::NoneOf(list(&["x", "y", "z"]))),
        ("params.a IS null", Test::IsNull),
        ("params.a is NOT null", Test::IsNotNull),
    ] {
        reads(Kind::Runs, filter, "params/a", test);
    }
    for (sign, op) in [("=", Op::Eq), ("!=", Op::Ne), ("<", Op::Lt), ("<=", Op::Le), (">", Op::Gt), (">=", Op::Ge)] {
        for (text, number) in [("1", 1.0), ("-1.5e-3", -0.0015), ("+2E+2", 200.0), ("5.", 5.0)] {
            reads(Kind::Runs, &format!("metrics.m{sign}{text}"), "latest_metrics/m", Test::Number(op, number));
        }
    }
    reads(Kind::Runs, "metrics.m IS NULL", "latest_metrics/m", Test::IsNull);
}

#[test]
fn and_binds_tighter_than_or_and_not_tightest() {
    let shape = |filter: &str| {
        fn draw(expr: &Expr) -> String {
            let join = |parts: &[Expr], word: &str| parts.iter().map(draw).collect::<Vec<_>>().join(word);
            match expr {
                Expr::All(parts) => format!("({})", join(parts, "&")),
                Expr::Any(parts) => format!("({})", join(parts, "|")),
                Expr::Not(inner) => format!("!{}", draw(inner)),
                Expr::Clause(field, _) => name(field).replace("tags/", ""),
            }
        }
        draw(&parse(Kind::Runs, filter).unwrap().unwrap())
    };
    assert_eq!(shape("tags.a='1' AND tags.b='1' or tags.c='1' and tags.d='1'"), "((a&b)|(c&d))");
    assert_eq!(shape("tags.a='1' AND (tags.b='1' or tags.c='1')"), "(a&(b|c))");
    assert_eq!(shape("not tags.a='1' AND NOT (tags.b='1' and tags.c='1')"), "(!a&!(b&c))");
    assert_eq!(parse(Kind::Runs, " \n ").unwrap(), None);
}

#[test]
fn a_refusal_says_where_what_and_what_else() {
    let kind = Kind::Runs;
    refused(kind, "metrics.acc >", &["the end at column 14", "a number"]);
    refused(kind, "metrics.acc > '5'", &["`'5'` at column 15", "a number without quotes"]);
    refused(kind, "params.größe = 0.1", &["`0.1` at column 16", "a text in quotes"]);
    refused(kind, "params.a > 'x'", &["`>` at column 10", "=, !=, LIKE, ILIKE, IN"]);
    refused(kind, "metrics.a LIKE 'x'", &["`LIKE` at column 11", "every number"]);
    refused(kind, "metrics.a == 1", &["`==` at column 11", "did you mean `=`?"]);
    refused(kind, "metrics.a <> 1", &["`<>` at column 11", "did you mean `!=`?"]);
    refused(kind, "metric.a = 1 AN params.b = 'x'", &["`AN` at column 14", "AND, OR or the end"]);
    refused(kind, "statu = 'x'", &["`statu` at column 1", "did you mean `status`?"]);
    refused(kind, "tags.a = 'x' AND parms.a = 'x'", &["`parms` at column 18", "did you mean `params`?"]);
    refused(kind, "attribute.end_tim > 1", &["at column 1", "did you mean `end_time`?"]);
    refused(kind, "dataset.nme = 'x'", &["name, digest, context", "did you mean `name`?"]);
    refused(kind, "params.a = 'x", &["the end at column 14", "the ' that closes the one at column 12"]);
    refused(kind, "params. = 'x'", &["` ` at column 8", "a key"]);
    refused(kind, "params.`` = 'x'", &["at column 8", "a key"]);
    refused(kind, "params.a = 'x\0'", &["column 14", "NUL"]);
    refused(kind, "params.a IN 'x'", &["`'x'` at column 13", "a list"]);
    refused(kind, "params.a IN ('x' 'y')", &["`'y'` at column 18", "`,` or `)`"]);
    refused(kind, "params.a IN ()", &["`)` at column 14", "a text in quotes"]);
    refused(kind, "params.a IS 'x'", &["at column 13", "NULL or NOT NULL"]);
    refused(kind, "(params.a = 'x'", &["the end at column 16", "`)`"]);
    refused(kind, "params.a = 'x')", &["`)` at column 15", "the end"]);
    refused(kind, "params.a = 'x'; DROP TABLE r", &["`;` at column 15"]);
    refused(kind, "metrics.a > 1.2.3", &["`1.2.3` at column 13", "a number"]);
    refused(kind, "metrics.a > 0x10", &["`0x10`", "a number"]);
    refused(kind, "'a' = params.a", &["`'a'` at column 1", "a key"]);
    refused(kind, "metrics.a > nan", &["`nan` at column 13"]);
    refused(Kind::Models, "params.a = 'x'", &["`params` at column 1", "tags"]);
    refused(Kind::Models, "nme = 'x'", &["did you mean `name`?"]);
    refused(Kind::Versions, "version_number = '1'", &["at column 18", "a number without quotes"]);
    refused(Kind::Experiments, "metrics.a = 1", &["`metrics` at column 1"]);
}

#[test]
fn what_is_too_much_is_refused() {
    refused(Kind::Runs, &format!("params.a = '{}'", "x".repeat(65_536)), &["65549 bytes", "65536"]);
    let clauses = |n| vec!["tags.a = 'x'"; n].join(" AND ");
    assert!(parse(Kind::Runs, &clauses(500)).is_ok());
    refused(Kind::Runs, &clauses(501), &["more than 500 clauses"]);
    let nested = |n| format!("{}tags.a = 'x'{}", "(".repeat(n), ")".repeat(n));
    assert!(parse(Kind::Runs, &nested(50)).is_ok());
    refused(Kind::Runs, &nested(51), &["more than 50 deep"]);
    refused(Kind::Runs, &"(".repeat(60_000), &["more than 50 deep"]);
    refused(Kind::Runs, &"NOT ".repeat(10_000), &["more than 50 deep"]);
    refused(Kind::Runs, &format!("params.a LIKE '{}'", "%".repeat(9_000)), &["column 15", "8192 bytes"]);
}

#[test]
fn orders_are_keys_with_a_direction() {
    let read = |kind, text: &str| {
        let order = order::parse(kind, &[text.to_owned()]).unwrap().remove(0);
        (name(&order.field), order.descending)
    };
    for (text, field, descending) in [
        ("metrics.loss", "latest_metrics/loss", false),
        ("metric.loss DESC", "latest_metrics/loss", true),
        (" metrics.`val loss`  asc ", "latest_metrics/val loss", false),
        ("`metrics`.\"val loss\" desc", "latest_metrics/val loss", true),
        ("params.desc", "params/desc", false),
        ("attributes.start_time DESC", "start_time", true),
        ("Created DESC", "start_time", true),
        ("Run name", "run_name", false),
        ("\"Run name\" DESC", "run_name", true),
    ] {
        assert_eq!(read(Kind::Runs, text), (field.to_owned(), descending), "{text}");
    }
    assert_eq!(read(Kind::Models, "timestamp DESC"), ("creation_timestamp".into(), true));
    assert_eq!(read(Kind::Versions, "version_number"), ("version_number".into(), false));
    for (text, part) in [
        ("", "order_by[0] has the end at column 1"),
        ("  ", "the end at column"),
        ("statrt_time", "did you mean `start_time`?"),
        ("metrik.a DESC", "`metrik` at column 1"),
        ("metrics.", "a key"),
        ("metrics.`a` b", "`b` at column 13"),
        ("metrics.loss SIDEWAYS", "`SIDEWAYS` at column 14"),
        ("tags.a DESC DESC", "`DESC` at column 8"),
        ("metrics.`a", "closes"),
        ("dataset.name", "a field that a run has once"),
        ("1; DROP TABLE registry_runs", "at column 1"),
    ] {
        let error = order::parse(Kind::Runs, &[text.to_owned()]).expect_err(text).to_string();
        assert!(error.contains(part), "no `{part}` in `{error}` of `{text}`");
    }
    let many = (0..33).map(|i| format!("metrics.m{i}")).collect::<Vec<_>>();
    let many = order::parse(Kind::Runs, &many).unwrap();
    assert!(order::complete(Kind::Runs, many).unwrap_err().to_string().contains("33 keys"));
}
