use std::time::Instant;

use domain::{Column, Frame, ports::Features as _};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::world::{World, t};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measure() {
    let world = World::new().await;
    let mut defs = vec![json!({"kind": "Source", "name": "flights", "timestamp": "at", "row_id": ["id"], "columns": [
        {"name": "id", "type": "int"}, {"name": "carrier", "type": "text"}, {"name": "origin", "type": "text"}, {"name": "dest", "type": "text"}, {"name": "tail", "type": "text"},
        {"name": "at", "type": "timestamp"}, {"name": "delay", "type": "float"}, {"name": "late", "type": "bool"}]})];
    let mut views = vec![];
    for e in ["carrier", "origin", "dest", "tail"] {
        defs.push(json!({"kind": "Entity", "name": e, "key": e}));
    }
    for (name, es) in [
        ("c", vec!["carrier"]),
        ("o", vec!["origin"]),
        ("d", vec!["dest"]),
        ("co", vec!["carrier", "origin"]),
        ("od", vec!["origin", "dest"]),
    ] {
        let agg = |n: &str, c: &str, f: &str, w: &str| json!({"name": n, "column": c, "function": f, "window": w});
        defs.push(json!({"kind": "FeatureView", "name": name, "source": "flights", "entities": es, "aggregations": [
            agg("n1", "delay", "count", "1d"), agg("m1", "delay", "mean", "1d"), agg("l1", "late", "mean", "1d"),
            agg("n7", "delay", "count", "7d"), agg("m7", "delay", "mean", "7d"), agg("l7", "late", "mean", "7d"), agg("s7", "delay", "std", "7d")]}));
        views.push(json!({"view": name}));
    }
    for (name, e) in [("t", "tail"), ("lo", "origin"), ("ld", "dest")] {
        defs.push(json!({"kind": "FeatureView", "name": name, "source": "flights", "entities": [e], "features": [{"name": "delay"}, {"name": "late"}, {"name": "carrier"}]}));
        views.push(json!({"view": name}));
    }
    defs.push(json!({"kind": "FeatureService", "name": "s", "views": views}));
    world.apply(&defs).await;
    let mut r = ChaCha8Rng::seed_from_u64(1);
    let year = 365i64 * 86_400_000_000;
    let n = 250_000i64;
    let key = |r: &mut ChaCha8Rng| {
        (
            format!("c{}", r.random_range(0..16)),
            format!("o{}", r.random_range(0..3)),
            format!("d{}", r.random_range(0..105)),
            format!("t{}", r.random_range(0..3000)),
        )
    };
    let mut csv = vec!["id,carrier,origin,dest,tail,at,delay,late\n".to_owned(); 10];
    for i in 0..n {
        let (c, o, d, tl) = key(&mut r);
        csv[(i * 10 / n) as usize].push_str(&format!(
            "{i},{c},{o},{d},{tl},{},{},{}\n",
            t(i * (year / n) + r.random_range(0..20_000_000_000)),
            r.random_range(-20..300),
            r.random_range(0..2)
        ));
    }
    let start = Instant::now();
    for part in csv {
        let s = Instant::now();
        let rep =
            world.store.ingest(&"flights".parse().unwrap(), feature_store::Format::Csv, part.into()).await.unwrap();
        println!("ingest {} {:?}", rep.accepted, s.elapsed());
    }
    println!("ingest all {:?}", start.elapsed());
    let make = |r: &mut ChaCha8Rng, n: usize, base: i64, span: i64| {
        let (mut a, mut b, mut c, mut d, mut at) = (vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..n {
            let (x, y, z, w) = key(r);
            a.push(Some(x.into()));
            b.push(Some(y.into()));
            c.push(Some(z.into()));
            d.push(Some(w.into()));
            at.push(t(base + r.random_range(0..span)));
        }
        (
            Frame::new([
                ("carrier".into(), Column::Text(a)),
                ("origin".into(), Column::Text(b)),
                ("dest".into(), Column::Text(c)),
                ("tail".into(), Column::Text(d)),
            ])
            .unwrap(),
            at,
        )
    };
    let (keys, at) = make(&mut r, 100_000, year / 2, year / 3);
    for _ in 0..3 {
        let s = Instant::now();
        let f = world.store.as_of(&"s".parse().unwrap(), &keys, &at).await.unwrap();
        println!("as_of {} x {} {:?}", f.rows(), f.names().len(), s.elapsed());
    }
    for rows in [50, 50, 50, 50, 50, 50, 1, 10, 50] {
        let s = Instant::now();
        for _ in 0..100 {
            let (keys, at) = make(&mut r, rows, year, 3_600_000_000);
            world.store.latest(&"s".parse().unwrap(), &keys, &at).await.unwrap();
        }
        println!("latest {rows} {:?}", s.elapsed() / 100);
    }
}
