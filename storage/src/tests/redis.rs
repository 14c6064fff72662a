use crate::testing::{Keeps, Redis, RedisCluster};

#[test]
fn a_server_of_the_tests_keeps_what_it_was_told_to() {
    for (keeps, left) in [(Keeps::Nothing, 0), (Keeps::Everything, 1)] {
        let redis = Redis::start(keeps);
        redis.ask::<()>(&["SET", "a", "1"]);
        redis.kill();
        redis.up();
        assert_eq!(redis.ask::<u64>(&["DBSIZE"]), left, "{keeps:?}");
        redis.kill();
        redis.forget();
        redis.up();
        assert_eq!(redis.ask::<u64>(&["DBSIZE"]), 0);
    }
}

#[test]
fn a_cluster_of_the_tests_serves_all_slots() {
    let cluster = RedisCluster::shared();
    let infos: Vec<String> = cluster.ask_all(&["CLUSTER", "INFO"]);
    assert_eq!(infos.len(), 3);
    assert!(infos.iter().all(|info| info.contains("cluster_slots_ok:16384")), "{infos:?}");
}
