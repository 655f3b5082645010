//! Claim: one sts-pair runs on a link at a time, but for one that enrols by code beside a service.

use super::*;

/// That a run of sts-pair does not get its locks, as another one has them.
fn assert_busy<T>(locks: Result<T>) {
    let err = locks.map(drop).unwrap_err();
    assert_eq!(err.exit(), Exit::TryAgain, "{err}");
    assert!(err.to_string().contains("another sts-pair is already running on this link"), "{err}");
}

#[test]
fn beside_a_service_runs_one_that_enrols_and_no_other() {
    let (home, cache) = cache();
    let _service = cache.lock_service().unwrap();
    assert!(cache.has_service());
    assert_busy(cache.lock_pairing());
    assert_busy(cache.lock_service());
    let _enrolment = cache.lock_enrolment().unwrap();
    assert!(cache.is_enrolling());
    assert_busy(cache.lock_enrolment());

    let other = Cache::create(&home.path().join("sts"), &link("other"), "other").unwrap();
    assert!(!other.has_service() && !other.is_enrolling(), "they are another link's");
    let _other = other.lock_pairing().unwrap();
}

#[test]
fn one_that_agrees_on_one_session_runs_alone() {
    let (_home, cache) = cache();
    let _pairing = cache.lock_pairing().unwrap();
    assert!(!cache.has_service() && !cache.is_enrolling());
    assert_busy(cache.lock_pairing());
    assert_busy(cache.lock_service());
    assert_busy(cache.lock_enrolment());
}

#[test]
fn one_that_enrols_runs_alone_without_a_service() {
    let (_home, cache) = cache();
    let _enrolment = cache.lock_enrolment().unwrap();
    assert!(cache.is_enrolling() && !cache.has_service());
    assert_busy(cache.lock_pairing());
    assert_busy(cache.lock_service());
}
