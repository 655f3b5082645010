//! Transcript, key schedule and the labels of the handshake (`sts-protocol(7)`, "Key schedule"); those of streams are
//! in `key_tree/mod.rs`.

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
use crate::stack::without_traces;

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

/// What the slave says with its signature, alone or as a leaf among others: its verdict and suite, and who it is, in
/// answer to the AUTHREQ in `th2`.
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

/// The MACs of a session check (`sts-protocol(7)`, "Still there"), each with its own label. All cover the role of the device
/// that asks, so that none can be reflected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionCheckMac {
    /// RDYREQ: asks whether the peer still has the session.
    Query,
    /// RDYACK: the peer has it.
    Present,
    /// RDYACK: the peer does not know it.
    Lost,
    /// RDYACK: the peer has deleted it.
    Deleted,
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
            Self::Deleted => b"sts2 deleted",
        };
        let role = if transcript.asker == Role::Master { 1 } else { 2 };
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

/// All randomness of the answer to `message`: equal for an equal message as long as the epoch key lives. Erased when it is
/// dropped: the keys that were drawn from it could be drawn again.
#[must_use]
pub fn answer_rng(epoch: &Key<Epoch>, message: &[u8]) -> StdRng {
    let seed = Zeroizing::new(<[u8; 32]>::from(hmac(epoch, &[message]).finalize().into_bytes()));
    StdRng::from_seed(*seed)
}

/// The cookie of an INITACK, from the digest of the topics and the INITREQ that it answers: only who has read the
/// INITACK has it.
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

/// As [`expand`], compiled once for keys of all purposes. hkdf leaves copies of a key on the stack.
pub(super) fn expand_bytes(prk: &[u8], info: &[&[u8]], len: usize) -> Zeroizing<Vec<u8>> {
    without_traces(|| {
        let hkdf = Hkdf::<Sha256>::from_prk(prk).expect("each key that others are expanded from is one digest long");
        let mut okm = Zeroizing::new(vec![0; len]);
        hkdf.expand_multi_info(info, &mut okm).expect(OKM_LEN_FITS);
        okm
    })
}

pub(super) fn hmac<P: KeyPurpose>(key: &Key<P>, parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests;
