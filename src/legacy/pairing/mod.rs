//! Pairing with the old program, as two machines without I/O, clock or randomness of their own.
//!
//! ```text
//!      master                              slave
//!   1  INITREQ  both ids              --->
//!                                     <---  INITACK                     2
//!   3  AUTHREQ  the slave's id        --->
//!                                     <---  AUTHACK                     4
//!                                     <---  AUTHREQ  the master's id    5
//!   6  AUTHACK                        --->
//!   7  RDYREQ   public key            --->
//!                                     <---  RDYACK                      8
//!                                     <---  RDYREQ   public key         9
//!  10  RDYACK                         --->
//! ```
//!
//! Each message answers one, and nothing is sent while the other device may be sending: the old program spoils what it is
//! sending when a message comes in. So a request is repeated after seconds of silence only, and an acknowledgement never. Nothing
//! counts as sent while there is no connection: an offer that the slave never saw must not be taken for one that it refused.
//!
//! The old program refuses a key without a word if any byte of it but the first is 0, unless the first is, too. As slave we draw
//! keys until one is not refused. As master we offer another key if no RDYACK comes; the slave uses the first that it does not
//! refuse, which can be computed from its own.

mod master;
mod slave;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::{CryptoRng, RngExt};

use self::master::PairingMaster;
use self::slave::PairingSlave;
use super::frame::{Frame, ID_LEN, Id};
use crate::crypto::legacy::{LegacyCipher, SecretKey};
use crate::role::Role;
use crate::secret::Key;

/// How long an attempt may take from INITREQ or INITACK. The old program exits 30 seconds after its start, and needs the last two
/// for what follows the last message; it was started up to [`master::INITREQ_INTERVAL`] before its first message.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(26);
/// Time without an answer after which a request is repeated: many round trips, so the other device is not sending any more.
const REPEAT_INTERVAL: Duration = Duration::from_secs(2);

/// What the two devices are called during one pairing.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ids {
    master: Id,
    slave: Id,
}

/// What a pairing draws at random.
pub(crate) trait Draw {
    /// What a device is called during one pairing.
    fn id(&mut self) -> Id;
    /// A private key.
    fn secret_key(&mut self) -> SecretKey;
}

impl<R: CryptoRng> Draw for R {
    fn id(&mut self) -> Id {
        const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        std::array::from_fn::<_, ID_LEN, _>(|_| ALPHABET[self.random_range(0..ALPHABET.len())])
    }

    fn secret_key(&mut self) -> SecretKey {
        SecretKey::generate(self)
    }
}

/// What a pairing asks its caller to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PairingOutput {
    /// Publish this.
    Send(Frame),
    /// Store a session under this key, as pending: the other device may use it as soon as it has what is sent next.
    Store(Key<LegacyCipher>),
    /// The other device has the key and is ready to receive under it: the session is current.
    Agreed,
    /// The other device may have taken this key instead: store a session under it, too, as pending. What it sends first tells.
    StoreOther(Key<LegacyCipher>),
    /// The other device has given up by now: delete what was stored.
    Abandon,
}

/// This device's side of a pairing.
pub(crate) enum Pairing {
    Master(PairingMaster),
    Slave(PairingSlave),
}

impl Pairing {
    /// A pairing in this role, for a session in CBC or in ECB, which sends nothing and accepts nothing before [`Pairing::begin`].
    pub(crate) fn new(role: Role, is_cbc: bool) -> Self {
        match role {
            Role::Master => Self::Master(PairingMaster::new()),
            Role::Slave => Self::Slave(PairingSlave::new(is_cbc)),
        }
    }

    /// Begins, once this device hears what the other one publishes. Does nothing if it has begun.
    pub(crate) fn begin(&mut self, now: Instant, draw: &mut dyn Draw) {
        match self {
            Self::Master(master) => master.begin(now, draw),
            Self::Slave(slave) => slave.begin(),
        }
    }

    /// Takes a frame; false where it does not belong here, and nothing has changed.
    pub(crate) fn accept(&mut self, frame: &Frame, now: Instant, draw: &mut dyn Draw) -> bool {
        match self {
            Self::Master(master) => master.accept(frame, now, draw),
            Self::Slave(slave) => slave.accept(frame, now, draw),
        }
    }

    /// What to do next, if anything is due; to be called until there is nothing. Unless it `can_send`, nothing is to be sent, and
    /// what is due waits.
    pub(crate) fn poll(&mut self, now: Instant, can_send: bool, draw: &mut dyn Draw) -> Option<PairingOutput> {
        match self {
            Self::Master(master) => master.poll(now, can_send, draw),
            Self::Slave(slave) => slave.poll(now, can_send),
        }
    }

    /// When [`Pairing::poll`] has something next, if no frame comes before. In the past where that waits until it can be sent.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Master(master) => master.deadline(),
            Self::Slave(slave) => slave.deadline(),
        }
    }

    /// Whether the other device has answered, and the pairing is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        match self {
            Self::Master(master) => master.is_under_way(),
            Self::Slave(slave) => slave.is_under_way(),
        }
    }
}

/// The next output; a frame stays where it cannot be sent.
fn pop(outbox: &mut VecDeque<PairingOutput>, can_send: bool) -> Option<PairingOutput> {
    if !can_send && matches!(outbox.front(), Some(PairingOutput::Send(_))) {
        return None;
    }
    outbox.pop_front()
}

/// Whether the old program takes this key: it counts the bytes before the first zero, and refuses 1 to 31.
pub(super) fn is_accepted(key: &Key<LegacyCipher>) -> bool {
    key.expose()[0] == 0 || !key.expose().contains(&0)
}

#[cfg(test)]
mod tests;
