//! Names for what was given none, runs and logged models: `calm-heron-417`.

use domain::Digest;

const ADJECTIVES: [&str; 48] = [
    "agile", "amber", "ample", "azure", "balmy", "brave", "brisk", "calm", "candid", "clever", "crisp", "deft",
    "eager", "early", "fair", "fleet", "frank", "gentle", "glad", "golden", "grand", "hardy", "humble", "jolly",
    "keen", "kind", "light", "lively", "loyal", "lucid", "mellow", "merry", "mild", "modest", "neat", "noble", "plain",
    "proud", "quiet", "rapid", "ready", "serene", "sober", "steady", "sunny", "tidy", "vivid", "warm",
];

/// What lives and grows at a mill pond.
const NOUNS: [&str; 48] = [
    "alder",
    "beetle",
    "birch",
    "bittern",
    "bream",
    "brook",
    "bulrush",
    "carp",
    "cattail",
    "coot",
    "crane",
    "crayfish",
    "dabchick",
    "dragonfly",
    "duckweed",
    "egret",
    "fern",
    "frog",
    "gadwall",
    "goose",
    "grebe",
    "heron",
    "iris",
    "kingfisher",
    "lily",
    "loach",
    "mallard",
    "marten",
    "mayfly",
    "mill",
    "minnow",
    "moorhen",
    "newt",
    "osier",
    "otter",
    "perch",
    "pike",
    "reed",
    "roach",
    "sedge",
    "sluice",
    "snipe",
    "swan",
    "tench",
    "toad",
    "vole",
    "wagtail",
    "willow",
];

/// The name that goes with an id: the same whenever it is asked for.
pub(crate) fn of(id: &str) -> String {
    let digest = Digest::of(id.as_bytes());
    let mut seed = digest.as_bytes().first_chunk().map_or(0, |head| u64::from_le_bytes(*head));
    let mut take = |below: u64| {
        let taken = seed % below;
        seed /= below;
        usize::try_from(taken).unwrap_or_default()
    };
    let (adjective, noun) = (ADJECTIVES[take(ADJECTIVES.len() as u64)], NOUNS[take(NOUNS.len() as u64)]);
    format!("{adjective}-{noun}-{}", take(1_000))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use domain::RunId;

    use super::*;

    #[test]
    fn an_id_is_always_called_the_same_and_few_share_a_name() {
        let ids: Vec<String> = (0..1_000).map(|_| RunId::mint().to_string()).collect();
        assert!(ids.iter().all(|id| of(id) == of(id) && of(id).split('-').count() == 3));
        assert!(ids.iter().map(|id| of(id)).collect::<BTreeSet<_>>().len() > 980);
    }
}
