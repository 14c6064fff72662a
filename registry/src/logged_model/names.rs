//! Names for what nobody named: `quiet-heron-417`.

use domain::Digest;

const ADJECTIVES: [&str; 32] = [
    "amber", "bold", "brisk", "calm", "clear", "crisp", "dapper", "eager", "fair", "fleet", "gentle", "glad", "hardy",
    "keen", "kind", "lively", "mellow", "mild", "nimble", "noble", "patient", "plain", "proud", "quick", "quiet",
    "sharp", "silver", "sleek", "steady", "swift", "tidy", "wise",
];
const NOUNS: [&str; 32] = [
    "badger",
    "beaver",
    "bittern",
    "bream",
    "carp",
    "coot",
    "crane",
    "curlew",
    "diver",
    "dragonfly",
    "duck",
    "eel",
    "egret",
    "frog",
    "grebe",
    "gull",
    "heron",
    "kingfisher",
    "loon",
    "mallard",
    "martin",
    "newt",
    "otter",
    "perch",
    "pike",
    "plover",
    "rail",
    "snipe",
    "stork",
    "swan",
    "tern",
    "trout",
];

/// The name that goes with an id: as random as the id is, and the same whenever it is asked for.
pub(super) fn name_for(id: &str) -> String {
    let digest = Digest::of(id.as_bytes());
    let bytes = digest.as_bytes();
    let adjective = ADJECTIVES[usize::from(bytes[0]) % ADJECTIVES.len()];
    let noun = NOUNS[usize::from(bytes[1]) % NOUNS.len()];
    let number = u16::from_be_bytes([bytes[2], bytes[3]]) % 1000;
    format!("{adjective}-{noun}-{number}")
}
