//! Claim: signatures are checked as Project Wycheproof's vectors of RSASSA-PSS say, and one that was made with another hash,
//! mask or length of salt than the protocol's is refused, even from the owner of the key.

use wycheproof::rsa_pss_verify::{Test, TestGroup, TestName, TestSet};
use wycheproof::{HashFunction, Mgf, TestResult};

use super::PublicKey;
use crate::Rejected;

/// Whether the group's signatures are made as the protocol makes them.
fn is_ours(group: &TestGroup) -> bool {
    let is_sha_256 = group.hash == HashFunction::Sha2_256 && group.mgf_hash == Some(HashFunction::Sha2_256);
    is_sha_256 && group.mgf == Mgf::Mgf1 && group.salt_size == 32
}

#[test]
fn rsa_pss() {
    let (mut good, mut refused, mut of_others) = (0, 0, 0);
    for name in TestName::all() {
        for group in &TestSet::load(name).unwrap().test_groups {
            // A key whose encoding restricts it to one kind of signature is no key of ours.
            let Ok(key) = PublicKey::from_der(&group.der) else { continue };
            // What is invalid among the signatures of others may be one of ours: "salt length changed to 32".
            let is_valid = |test: &&Test| test.result == TestResult::Valid;
            for test in group.tests.iter().filter(|test| is_ours(group) || is_valid(test)) {
                let is_good = is_ours(group) && is_valid(&test);
                let expected = if is_good { Ok(()) } else { Err(Rejected::NotAuthentic) };
                assert_eq!(key.verify(&test.msg, &test.sig), expected, "{name:?}: {test:?}");
                good += usize::from(is_good);
                refused += usize::from(!is_good && is_ours(group));
                of_others += usize::from(!is_ours(group));
            }
        }
    }
    assert_eq!((good, refused, of_others), (190, 135, 1443));
}
