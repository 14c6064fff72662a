//! Who stands behind what is being done: set once at the door, read where the journal is written.

use std::{future::Future, sync::Arc};

/// A request and, where it is known, the holder of its token.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// `None` where nobody has to say who they are: then the journal takes the actor that the event names.
    pub name: Option<Arc<str>>,
    /// As `x-request-id` names the request.
    pub request: Option<Arc<str>>,
}

tokio::task_local! {
    static CALLER: Caller;
}

/// Runs `work` on behalf of `caller`: events that it appends name the caller and the request. Tasks that `work` spawns
/// act on their own.
pub async fn acting<T>(caller: Caller, work: impl Future<Output = T>) -> T {
    CALLER.scope(caller, work).await
}

/// The name of the caller on whose behalf this runs, else `claimed`.
#[must_use]
pub fn caller_or(claimed: &str) -> String {
    let name = CALLER.try_with(|caller| caller.name.clone()).ok().flatten();
    name.map_or_else(|| claimed.to_owned(), |name| name.to_string())
}

/// The request on whose behalf this runs.
pub(crate) fn request() -> Option<String> {
    CALLER.try_with(|caller| caller.request.as_deref().map(str::to_owned)).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_known_caller_outweighs_a_claim_and_ends_with_the_work() {
        let ann = Caller { name: Some("ann".into()), request: Some("r1".into()) };
        assert_eq!(acting(ann, async { (caller_or("bob"), request()) }).await, ("ann".into(), Some("r1".into())));
        assert_eq!(acting(Caller::default(), async { caller_or("bob") }).await, "bob");
        assert_eq!((caller_or("bob"), request()), ("bob".into(), None));
    }
}
