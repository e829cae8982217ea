//! The signing key is replaced as docs/operations.md says: nobody notices, and in the end the old one opens nothing.

use super::installation::Installation;
use crate::serve::free_address;

const SIGNING: &str = "HALYARD_SIGNING_KEY";
const PREVIOUS: &str = "HALYARD_PREVIOUS_SIGNING_KEY";
const OLD: &str = "the old signing key, 32 bytes or more";
const NEW: &str = "the new signing key, 32 bytes or more";

#[tokio::test]
async fn a_signing_key_is_replaced_in_three_restarts_without_a_token_being_refused() {
    let world = Installation::start().await;
    let serve = async |settings: &[(&str, &str)]| world.serve_with("flags", &free_address(), settings).await;
    let before = serve(&[(SIGNING, OLD)]).await;
    let first = before.log_in().await;

    // While replicas are replaced, some are at one step and some at the next: each knows what the other signs.
    let verifying = serve(&[(SIGNING, OLD), (PREVIOUS, NEW)]).await;
    let second = verifying.log_in().await;
    for token in [&first, &second] {
        assert!(before.knows(token).await && verifying.knows(token).await);
    }
    before.stop();
    let swapped = serve(&[(SIGNING, NEW), (PREVIOUS, OLD)]).await;
    let third = swapped.log_in().await;
    for token in [&first, &second, &third] {
        assert!(verifying.knows(token).await && swapped.knows(token).await);
    }
    verifying.stop();
    let last = serve(&[(SIGNING, NEW)]).await;
    assert!(last.knows(&third).await);
    assert!(swapped.knows(&last.log_in().await).await);
    for token in [&first, &second] {
        assert!(!last.knows(token).await, "the old key opens something");
    }
}
