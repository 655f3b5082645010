//! Transcript, key schedule and the labels of the handshake (`sts-protocol(7)`, "Key schedule"); those of streams are in
//! `key_tree.rs`.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use rand::SeedableRng;
use rand::rngs::StdRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::exchange::SharedSecret;
use crate::Rejected;
use crate::role::Role;
use crate::secret::{Confirm, Epoch, HandshakeSeal, Key, KeyPurpose, Pake, Refusal, Root, Side, Tree};

/// Length in bytes of SHA-256's output, and of every MAC of the handshake.
pub const DIGEST_LEN: usize = 32;
/// Length in bytes of a session id.
pub const SESSION_ID_LEN: usize = 8;
/// Length in bytes of the beginning of th1 that names an attempt on the wire.
pub const ATTEMPT_ID_LEN: usize = 16;
/// Length in bytes of a cookie.
pub const COOKIE_LEN: usize = 16;

/// SHA-256's output: a transcript hash or a fingerprint.
pub type Digest = [u8; DIGEST_LEN];
/// The first bytes of th1: which attempt a message belongs to.
pub type AttemptId = [u8; ATTEMPT_ID_LEN];
/// What a device can do beyond this version: one bit each, none of which is given yet.
pub type Features = [u8; 4];
/// What an INITACK carries, and the AUTHREQ that answers it repeats.
pub type Cookie = [u8; COOKIE_LEN];

const OKM_LEN_FITS: &str = "the length is below HKDF-SHA-256's limit of 8,160 bytes";

/// SHA-256 over `parts`, each after its length as 8 bytes, big-endian: no two lists of parts hash the same bytes.
#[must_use]
pub fn digest(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The two topics of a link, as both ends name them: without `$share` prefix, or the configured channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topics {
    /// On which the master publishes.
    pub master_to_slave: String,
    /// On which the slave publishes.
    pub slave_to_master: String,
}

/// The keys of one attempt, from the moment INITREQ and INITACK are both known.
#[derive(Clone)]
pub struct Schedule {
    th1: Digest,
    prk: Key<Root>,
    /// As prk, without the code: both ends have it, whichever code each was given.
    codeless: Key<Root>,
}

impl Schedule {
    /// th1 and prk, from the two messages as they were on the wire, and from the code if they carry shares.
    #[must_use]
    pub fn new(
        topics: &Topics,
        init_req: &[u8],
        init_ack: &[u8],
        shared: &SharedSecret,
        pake: Option<&Key<Pake>>,
    ) -> Self {
        let th1 = digest(&[
            b"sts2 th1",
            topics.master_to_slave.as_bytes(),
            topics.slave_to_master.as_bytes(),
            init_req,
            init_ack,
        ]);
        let codeless = extract(&th1, shared.expose());
        let prk = match pake {
            Some(pake) => extract(&th1, &Zeroizing::new([shared.expose(), pake.expose()].concat())),
            None => codeless.clone(),
        };
        Self { th1, prk, codeless }
    }

    /// Names the attempt in AUTHREQ and everything after it.
    #[must_use]
    pub fn attempt(&self) -> AttemptId {
        *self.th1.first_chunk().expect("a digest is longer than an attempt id")
    }

    /// Seals the master's credentials in AUTHREQ.
    #[must_use]
    pub fn hs_m(&self) -> Key<HandshakeSeal> {
        expand(&self.prk, &[b"sts2 handshake master"], 32)
    }

    /// Seals the slave's credentials in the AUTHACK that answers the AUTHREQ in `th2`, and in no other.
    #[must_use]
    pub fn hs_s(&self, th2: &Digest) -> Key<HandshakeSeal> {
        expand(&self.prk, &[b"sts2 handshake slave", th2], 32)
    }

    /// Authenticates the refusal of the AUTHREQ in `th2`, also where that was sealed under another code.
    #[must_use]
    pub fn refusal(&self, th2: &Digest) -> Key<Refusal> {
        expand(&self.codeless, &[b"sts2 refusal", th2], 32)
    }

    /// What the master says with its signature, alone or as a leaf among others: who it is, in this attempt.
    #[must_use]
    pub fn master_leaf(&self, features: &Features, name: &str, key: &[u8]) -> Digest {
        digest(&[b"sts2 master leaf", &self.th1, features, name.as_bytes(), key])
    }

    /// The transcript hash after AUTHREQ.
    #[must_use]
    pub fn th2(&self, auth_req: &[u8]) -> Digest {
        digest(&[b"sts2 th2", &self.th1, auth_req])
    }

    /// The session that this attempt leads to, with both ends authenticated.
    #[must_use]
    pub fn session(&self, th2: &Digest, auth_ack: &[u8]) -> SessionKeys {
        let th3 = digest(&[b"sts2 th3", th2, auth_ack]);
        let prk2 = extract(&th3, self.prk.expose());
        let id: Key<Root> = expand(&prk2, &[b"sts2 session id"], SESSION_ID_LEN);
        SessionKeys {
            th3,
            id: id.expose().try_into().expect("that length was asked for"),
            tree_m2s: expand(&prk2, &[b"sts2 tree m2s"], 32),
            tree_s2m: expand(&prk2, &[b"sts2 tree s2m"], 32),
            side_m2s: expand(&prk2, &[b"sts2 side m2s"], 32),
            side_s2m: expand(&prk2, &[b"sts2 side s2m"], 32),
            confirm: expand(&prk2, &[b"sts2 confirm"], 32),
        }
    }
}

/// A node over two others, whose order does not count: that a leaf is below it is all that is ever shown.
#[must_use]
pub fn tree_node(a: &Digest, b: &Digest) -> Digest {
    digest(&[b"sts2 node", a.min(b), a.max(b)])
}

/// What the master signs: the root over its leaves.
#[must_use]
pub fn signed_by_master(root: &Digest) -> Vec<u8> {
    [&b"sts2 auth master"[..], root].concat()
}

/// What the slave says with its signature, alone or as a leaf among others: its verdict and suite, and who it is, in answer to
/// the AUTHREQ in `th2`.
#[must_use]
pub fn slave_leaf(th2: &Digest, verdict: &[u8; 2], features: &Features, name: &str, key: &[u8]) -> Digest {
    digest(&[b"sts2 slave leaf", th2, verdict, features, name.as_bytes(), key])
}

/// What the slave signs: the root over its leaves.
#[must_use]
pub fn signed_by_slave(root: &Digest) -> Vec<u8> {
    [&b"sts2 auth slave"[..], root].concat()
}

/// The secrets of one session (`sts-protocol(7)`, "Key schedule").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionKeys {
    /// The transcript of the handshake that made it.
    pub th3: Digest,
    /// Names it; its first three bytes are the session tag on the wire.
    pub id: [u8; SESSION_ID_LEN],
    /// Leads to the keys of the streams that the master sends.
    pub tree_m2s: Key<Tree>,
    /// Leads to the keys of the streams that the slave sends.
    pub tree_s2m: Key<Tree>,
    /// Leads to the keys of the master's side streams.
    pub side_m2s: Key<Side>,
    /// Leads to the keys of the slave's side streams.
    pub side_s2m: Key<Side>,
    /// Authenticates RDYREQ and RDYACK, also those of a session check.
    pub confirm: Key<Confirm>,
}

/// The four confirmations that end a handshake; each has a label of its own, so none can be reflected as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Confirmation {
    /// Step 5, RDYREQ: the master has verified the slave.
    Request,
    /// Step 6, RDYACK: the slave has stored the session as pending.
    SlaveReady,
    /// Step 7, RDYACK: the master has stored the session and may already send.
    MasterReady,
    /// Step 8, RDYACK: the slave knows it; the master need not wait for more.
    SlaveDone,
}

impl Confirmation {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Request => b"sts2 rdyreq",
            Self::SlaveReady => b"sts2 slave ready",
            Self::MasterReady => b"sts2 master ready",
            Self::SlaveDone => b"sts2 slave done",
        }
    }

    /// The MAC of this step.
    #[must_use]
    pub fn mac(self, keys: &SessionKeys) -> Digest {
        self.hmac(keys).finalize().into_bytes().into()
    }

    /// Checks the MAC of this step in constant time.
    ///
    /// # Errors
    /// [`Rejected::NotAuthentic`] if it is another's.
    pub fn verify(self, keys: &SessionKeys, mac: &Digest) -> Result<(), Rejected> {
        self.hmac(keys).verify(mac.into()).map_err(|_| Rejected::NotAuthentic)
    }

    fn hmac(self, keys: &SessionKeys) -> Hmac<Sha256> {
        hmac(&keys.confirm, &[self.label(), &keys.th3])
    }
}

/// The MACs of a session check (`sts-protocol(7)`, "Still there"). Each has its own label, and all cover the role of the device
/// that asks, so that none can be reflected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionCheckMac {
    /// RDYREQ: asks whether the peer still has the session.
    Query,
    /// RDYACK: the peer has it.
    Present,
    /// RDYACK: the peer does not know it.
    Lost,
}

/// What the MACs of a query and of its reply cover.
#[derive(Clone, Copy, Debug)]
pub struct SessionCheckTranscript<'a> {
    /// The role of the device that asks.
    pub asker: Role,
    /// The session whose confirmation key authenticates both frames.
    pub session: &'a [u8; SESSION_ID_LEN],
    /// The random bytes of the query ("fresh").
    pub nonce: &'a [u8; 16],
    /// The session that the query is about.
    pub about: &'a [u8; SESSION_ID_LEN],
}

impl SessionCheckMac {
    /// The MAC under the confirmation key of `transcript.session`.
    #[must_use]
    pub fn mac(self, key: &Key<Confirm>, transcript: &SessionCheckTranscript<'_>) -> Digest {
        self.hmac(key, transcript).finalize().into_bytes().into()
    }

    /// Checks such a MAC in constant time.
    ///
    /// # Errors
    /// [`Rejected::NotAuthentic`] if it is another's.
    pub fn verify(
        self,
        key: &Key<Confirm>,
        transcript: &SessionCheckTranscript<'_>,
        mac: &Digest,
    ) -> Result<(), Rejected> {
        self.hmac(key, transcript).verify(mac.into()).map_err(|_| Rejected::NotAuthentic)
    }

    fn hmac(self, key: &Key<Confirm>, transcript: &SessionCheckTranscript<'_>) -> Hmac<Sha256> {
        let label: &[u8] = match self {
            Self::Query => b"sts2 still there",
            Self::Present => b"sts2 still here",
            Self::Lost => b"sts2 lost",
        };
        let role = match transcript.asker {
            Role::Master => 1,
            Role::Slave => 2,
        };
        hmac(key, &[label, transcript.session, transcript.nonce, transcript.about, &[role]])
    }
}

/// The MAC of a refusal over everything before it.
#[must_use]
pub fn refusal_mac(key: &Key<Refusal>, message: &[u8]) -> Digest {
    hmac(key, &[message]).finalize().into_bytes().into()
}

/// Checks the MAC of a refusal in constant time.
///
/// # Errors
/// [`Rejected::NotAuthentic`] if it is another's.
pub fn verify_refusal(key: &Key<Refusal>, message: &[u8], mac: &Digest) -> Result<(), Rejected> {
    hmac(key, &[message]).verify(mac.into()).map_err(|_| Rejected::NotAuthentic)
}

/// Seals the one message of this key: AES-256-GCM, nonce 0. Taking the key by value is what makes it one.
#[must_use]
pub fn seal_once(key: Key<HandshakeSeal>, associated_data: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let sealed = gcm(&key)
        .encrypt(&[0; 12].into(), Payload { msg: plaintext, aad: associated_data })
        .expect("a handshake message is shorter than GCM's limit");
    drop(key);
    sealed
}

/// Opens the one message of this key.
///
/// # Errors
/// [`Rejected::NotAuthentic`] whatever is wrong with it.
pub fn open_once(
    key: &Key<HandshakeSeal>,
    associated_data: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Rejected> {
    gcm(key)
        .decrypt(&[0; 12].into(), Payload { msg: sealed, aad: associated_data })
        .map(Zeroizing::new)
        .map_err(|_| Rejected::NotAuthentic)
}

/// All randomness of the answer to `message`: equal for an equal message as long as the epoch key lives.
#[must_use]
pub fn answer_rng(epoch: &Key<Epoch>, message: &[u8]) -> StdRng {
    let seed = Zeroizing::new(<[u8; 32]>::from(hmac(epoch, &[message]).finalize().into_bytes()));
    StdRng::from_seed(*seed)
}

/// The cookie of an INITACK, from the digest of the topics and the INITREQ that it answers: only who has read the INITACK
/// has it.
#[must_use]
pub fn cookie(epoch: &Key<Epoch>, asked: &Digest) -> Cookie {
    let mac = cookie_hmac(epoch, asked).finalize().into_bytes();
    *mac.first_chunk().expect("a MAC is longer than a cookie")
}

/// Checks a cookie in constant time.
///
/// # Errors
/// [`Rejected::NotAuthentic`] if it was not made with this epoch key, or for another INITREQ.
pub fn verify_cookie(epoch: &Key<Epoch>, asked: &Digest, cookie: &Cookie) -> Result<(), Rejected> {
    cookie_hmac(epoch, asked).verify_truncated_left(cookie).map_err(|_| Rejected::NotAuthentic)
}

fn cookie_hmac(epoch: &Key<Epoch>, asked: &Digest) -> Hmac<Sha256> {
    hmac(epoch, &[b"sts2 cookie", asked])
}

fn gcm(key: &Key<HandshakeSeal>) -> Aes256Gcm {
    Aes256Gcm::new_from_slice(key.expose()).expect("handshake keys are expanded to 32 bytes")
}

pub(super) fn extract(salt: &[u8], ikm: &[u8]) -> Key<Root> {
    let (prk, _) = Hkdf::<Sha256>::extract(Some(salt), ikm);
    let prk = Zeroizing::new(<[u8; DIGEST_LEN]>::from(prk));
    Key::generate(DIGEST_LEN, |key| key.copy_from_slice(&*prk))
}

pub(super) fn expand<P: KeyPurpose>(prk: &Key<impl KeyPurpose>, info: &[&[u8]], len: usize) -> Key<P> {
    Key::new(expand_bytes(prk.expose(), info, len))
}

/// As [`expand`], compiled once for keys of all purposes.
pub(super) fn expand_bytes(prk: &[u8], info: &[&[u8]], len: usize) -> Zeroizing<Vec<u8>> {
    let hkdf = Hkdf::<Sha256>::from_prk(prk).expect("each key that others are expanded from is one digest long");
    let mut okm = Zeroizing::new(vec![0; len]);
    hkdf.expand_multi_info(info, &mut okm).expect(OKM_LEN_FITS);
    okm
}

pub(super) fn hmac<P: KeyPurpose>(key: &Key<P>, parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    fn schedule() -> Schedule {
        schedule_with(None)
    }

    fn schedule_with(pake: Option<&Key<Pake>>) -> Schedule {
        let topics = Topics { master_to_slave: "m2s".into(), slave_to_master: "s2m".into() };
        Schedule::new(&topics, b"request", b"acknowledgement", &SharedSecret::for_test((0..64).collect()), pake)
    }

    /// Expected values from a separate computation with another language's HMAC and SHA-256.
    #[test]
    fn known_answers() {
        let schedule = schedule();
        let th2 = schedule.th2(b"authreq");
        let session = schedule.session(&th2, b"authack");
        let expected = |bytes: &[u8], text: &str| assert_eq!(bytes, hex(text));
        expected(&schedule.attempt(), "479f8c6dca4390737a7108d1d5d6aaa1");
        expected(schedule.hs_m().expose(), "aadef3166a1010469b9457a3f8e6802d81b4d2fa5f33299df5de932104176e58");
        expected(schedule.hs_s(&th2).expose(), "a8ce7de9bd447aa94c02b5b4e2426560887d4f4007d28a92246ab2433277a8cd");
        expected(schedule.refusal(&th2).expose(), "6ad4c18d0cb60e6e9f20fabda61188e803bc98649010ebd4f8ab8c3cd514a9be");
        expected(&session.id, "96fdc7796f72772c");
        for (key, text) in [
            (session.tree_m2s.expose(), "99c7bc74209194463d25f6f59dc4173fb2585e0b364db503989012e340d396f3"),
            (session.tree_s2m.expose(), "7431b59c502a93a76c2a951a044158ff3d5f73eb72df3e8f0505ad94201a44ac"),
            (session.side_m2s.expose(), "0727d68308515f432af8234ff6947ae46d5bef14f9add95c7f95d9615f6b9efa"),
            (session.side_s2m.expose(), "08a3c37f9ac64dfc67d496cccc2445a9cc3b307869467e3e9b8ab0faf1d1a181"),
        ] {
            expected(key, text);
        }
        for (step, text) in [
            (Confirmation::Request, "c28258320e1bdec69cd0667702f4f9c71b787b33405b7da78f5456d4da9e84ee"),
            (Confirmation::SlaveReady, "fbb14784143b77438060b11d3f427db0d0db562a9f7cdd7014e47bbe2c3f83fa"),
            (Confirmation::MasterReady, "7bf24c6bf05aaba7eb5a04a72a361ca75258ea9f057f95fa18f9df4153ef7fc8"),
            (Confirmation::SlaveDone, "6858fa9ff91bc45c394d19f401cb38c0ef93889a534226eb295a464a7e39260b"),
        ] {
            expected(&step.mac(&session), text);
        }
    }

    /// The same with a code: everything but th1 and the refusal depends on it.
    #[test]
    fn known_answers_with_a_code() {
        let schedule = schedule_with(Some(&Key::new(Zeroizing::new((64..96).collect()))));
        let th2 = schedule.th2(b"authreq");
        let session = schedule.session(&th2, b"authack");
        let expected = |bytes: &[u8], text: &str| assert_eq!(bytes, hex(text));
        expected(&schedule.attempt(), "479f8c6dca4390737a7108d1d5d6aaa1");
        expected(schedule.hs_m().expose(), "4b36154f9ee4ba3b1ab5b2a4a35d10183a7b72a5f4e3d9adb7867f9fc5b584e5");
        expected(schedule.hs_s(&th2).expose(), "8fd9fd46a63c9a6b7e1c951c9270d49916a311ac24fd7bd805661b11a6c4a56c");
        expected(schedule.refusal(&th2).expose(), "6ad4c18d0cb60e6e9f20fabda61188e803bc98649010ebd4f8ab8c3cd514a9be");
        expected(&session.id, "92246b0813b0935d");
        expected(session.tree_m2s.expose(), "4351e6c2a7a779366a765c1d0821b776ae0e1d50bfdaa2c7bf06fcf288153938");
        expected(session.side_s2m.expose(), "0d5c1cfdbd1ecc083c34aa472a4fce0d53c2262c5b2722dfc326b9e18787d0d0");
        expected(session.confirm.expose(), "8fd1569532c2340c60e183c7e0601060e0ba95b3ef3d4df1cef88b95be160e6f");
    }

    /// Expected values from a separate computation, as above.
    #[test]
    fn known_answers_of_cookie_leaves_and_signed_texts() {
        let expected = |bytes: &[u8], text: &str| assert_eq!(bytes, hex(text));
        let (schedule, features) = (schedule(), [1, 2, 3, 4]);
        let epoch = Key::new(Zeroizing::new((0..32).collect()));
        let made = cookie(&epoch, &digest(&[b"request"]));
        expected(&made, "8b4b0b1403d071a0c6ff8109f9c1a645");
        expected(
            &schedule.master_leaf(&features, "station", b"key"),
            "813de94662cce7a6017e463aa9ce2f02ae07513c724f3546cdeb9c9504df8bfa",
        );
        expected(
            &slave_leaf(&schedule.th2(b"authreq"), &[0, 1], &features, "gateway", b"key"),
            "08f7f8278ea76131ca4d014a7d42de37d2ac446b104c78079fb8f2a30c22649c",
        );
        let [a, b] = [digest(&[b"a"]), digest(&[b"b"])];
        let node = "dcbb1de4fe726d253f7c610f8d7c6360152405567333f8ebed7e072d2bd25ece";
        expected(&tree_node(&a, &b), node);
        expected(&tree_node(&b, &a), node);
        let root = "3b196fd4907bedf51c3090e9835f2f7cb61e7ee1b2299ea3b8fed9b4183a822a";
        expected(&signed_by_master(&a), &format!("737473322061757468206d6173746572{root}"));
        expected(&signed_by_slave(&a), &format!("73747332206175746820736c617665{root}"));
    }

    #[test]
    fn a_cookie_is_good_for_one_init_req_under_one_key() {
        let [epoch, other] = [1, 2].map(|byte| Key::new(Zeroizing::new(vec![byte; 32])));
        let [init_req, another] = [digest(&[b"request"]), digest(&[b"another"])];
        let made = cookie(&epoch, &init_req);
        assert_eq!(verify_cookie(&epoch, &init_req, &made), Ok(()));
        for (epoch, init_req) in [(&epoch, &another), (&other, &init_req)] {
            assert_eq!(verify_cookie(epoch, init_req, &made), Err(Rejected::NotAuthentic));
        }
        for bit in 0..8 * COOKIE_LEN {
            let mut flipped = made;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify_cookie(&epoch, &init_req, &flipped), Err(Rejected::NotAuthentic));
        }
    }

    #[test]
    fn a_confirmation_is_good_for_its_own_step_only() {
        let schedule = schedule();
        let session = schedule.session(&schedule.th2(b"authreq"), b"authack");
        let steps =
            [Confirmation::Request, Confirmation::SlaveReady, Confirmation::MasterReady, Confirmation::SlaveDone];
        for made in steps {
            for checked in steps {
                assert_eq!(checked.verify(&session, &made.mac(&session)).is_ok(), made == checked);
            }
        }
    }

    #[test]
    fn a_refusal_is_good_for_one_auth_req_and_one_reason() {
        let schedule = schedule();
        let [key, other] = [b"authreq", b"another"].map(|auth_req| schedule.refusal(&schedule.th2(auth_req)));
        let mac = refusal_mac(&key, b"reason");
        assert_eq!(verify_refusal(&key, b"reason", &mac), Ok(()));
        assert_eq!(verify_refusal(&other, b"reason", &mac), Err(Rejected::NotAuthentic));
        assert_eq!(verify_refusal(&key, b"treason", &mac), Err(Rejected::NotAuthentic));
    }

    /// Expected values from a separate computation, with the keys above.
    #[test]
    fn a_query_and_its_reply_are_good_for_one_asker_only() {
        let schedule = schedule_with(Some(&Key::new(Zeroizing::new((64..96).collect()))));
        let session = schedule.session(&schedule.th2(b"authreq"), b"authack");
        let transcript =
            |asker| SessionCheckTranscript { asker, session: &session.id, nonce: &[7; 16], about: &[3; 8] };
        let mac = |what: SessionCheckMac, asker| what.mac(&session.confirm, &transcript(asker));
        let mut seen = Vec::new();
        for (what, asker, text) in [
            (SessionCheckMac::Query, Role::Master, "4fdf30a22d1570c45333c1cea68e28248f36771e7fc26aa480fb3d1aa817211a"),
            (SessionCheckMac::Query, Role::Slave, "c5554317f7f2330af9053e2d592496c472083b8ab9075aac934f9e8eb3b2a587"),
            (
                SessionCheckMac::Present,
                Role::Master,
                "77751cbdaa87ce02606df7f9124a7fef73d41bb6bebb02bc07579b8e804445a5",
            ),
            (SessionCheckMac::Present, Role::Slave, "39c4ce481252bfe2aaf89ac3b700cbb375d27f85ea35718179865fcfd7e73a38"),
            (SessionCheckMac::Lost, Role::Master, "85c6c2f10c2304db4fb59f3aca52750bc21b886d9070761d0b56bf1b78db0868"),
            (SessionCheckMac::Lost, Role::Slave, "6d91689b37465f880ce25d165d63586f68813169cc73f3efaafdf55a6f701056"),
        ] {
            assert_eq!(mac(what, asker)[..], hex(text));
            seen.push((what, asker, mac(what, asker)));
        }
        for (made, of, made_mac) in &seen {
            for (what, asker, _) in &seen {
                let good = what.verify(&session.confirm, &transcript(*asker), made_mac).is_ok();
                assert_eq!(good, (made, of) == (what, asker));
            }
            let of_another = SessionCheckTranscript { about: &session.id, ..transcript(*of) };
            assert!(made.verify(&session.confirm, &of_another, made_mac).is_err());
        }
    }

    #[test]
    fn parts_of_a_digest_do_not_run_together() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_ne!(digest(&[b"ab"]), digest(&[b"ab", b""]));
    }

    #[test]
    fn sealed_once_opens_with_the_same_associated_data_only() {
        let schedule = schedule();
        let sealed = seal_once(schedule.hs_m(), b"header", b"credentials");
        assert_eq!(open_once(&schedule.hs_m(), b"header", &sealed).unwrap()[..], b"credentials"[..]);
        assert_eq!(open_once(&schedule.hs_m(), b"other", &sealed), Err(Rejected::NotAuthentic));
        assert_eq!(open_once(&schedule.hs_s(&[0; 32]), b"header", &sealed), Err(Rejected::NotAuthentic));
    }
}
