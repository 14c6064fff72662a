mod common;
use common::*;
use std::time::Instant;
use evaluator::*;
fn rss() -> String { std::fs::read_to_string("/proc/self/status").unwrap().lines().filter(|l| l.starts_with("VmRSS") || l.starts_with("VmHWM")).collect() }
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big() {
    let dir = tempfile::tempdir().unwrap();
    let all = rows(1, 0..24 * 275, 38, 0.0);
    eprintln!("{} rows made {}", all.len(), rss());
    let world = World::open(dir.path()).await;
    world.evaluator.configure(watch(1)).await.unwrap();
    let t = Instant::now();
    play(&world.evaluator, &all).await;
    eprintln!("played {:?} {}", t.elapsed(), rss());
    let t = Instant::now();
    let q = world.evaluator.quality(&endpoint(), QualityQuery { bucket: Bucket::Week, slice: Some("site".into()), ..Default::default() }).await.unwrap();
    eprintln!("quality {} rows {:?}", q.len(), t.elapsed());
    let t = Instant::now();
    world.evaluator.prediction(&all[100_000].id).await.unwrap();
    eprintln!("one prediction {:?}", t.elapsed());
    world.close().await;
    drop(all);
    let t = Instant::now();
    let world = World::open(dir.path()).await;
    eprintln!("reopened {:?} {} {:?}", t.elapsed(), rss(), world.evaluator.status(&endpoint()).await.unwrap());
    world.close().await;
}
