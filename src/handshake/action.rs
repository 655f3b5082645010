//! What a frame that was accepted means for the caller, and what may be told about frames that prove nothing.

use super::{AuthRefusal, EnrolmentConflict, Established, Peer};
use crate::identity::{Fingerprint, PeerName};
use crate::role::Role;

/// What an accepted frame asks the caller to do. Where there is something to store and a frame to send, store first: a peer
/// that hears of a session can then rely on it.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send this frame.
    Send(Vec<u8>),
    /// Send nothing yet: the frame is answered by a later poll.
    Wait,
    /// Slave, step 3: the master has proved its key and wants a new session. Send step 4.
    MasterAuthenticated(Vec<u8>),
    /// Slave, step 5: store the session as pending, then send step 6.
    StorePending(Box<Established>, Vec<u8>),
    /// Master, step 6: store the session as current, then send step 7.
    StoreCurrent(Box<Established>, Vec<u8>),
    /// Slave, step 7: make the session current, then send step 8. This ends the handshake.
    Promote(Box<Established>, Vec<u8>),
    /// Master, step 8: the slave knows that the session is current. This ends the handshake.
    Finished(Box<Established>),
    /// Slave: an attempt with a wrong code was counted, and this many are left. Send the frame.
    WrongCode {
        /// Attempts that may still fail, at least 1.
        left: usize,
        /// The slave's refusal.
        frame: Vec<u8>,
    },
    /// Master: the slave says that its code is another one. Give this code up; the next one has this many attempts left.
    CodeRejected {
        /// Attempts that may still fail.
        left: usize,
    },
    /// Send the frame if there is one, then give up.
    Fail(HandshakeFailure, Option<Vec<u8>>),
    /// Tell the user what no signature proves, and send the frame if there is one.
    Claim(Claim, Option<Vec<u8>>),
}

/// Why no session is agreed, and trying again would not change that.
#[derive(Debug)]
pub(crate) enum HandshakeFailure {
    /// The peer is authentic, and its configuration asks for another suite.
    SuiteDiffers {
        /// The peer's name on this device.
        peer: PeerName,
        /// The number of the suite that it asks for.
        theirs: u8,
    },
    /// The peer has the code, and cannot be pinned.
    EnrolmentConflict {
        /// The peer, under the name that it gives itself.
        peer: Peer,
        /// The reason; `None` where it is the peer that cannot pin this device.
        conflict: Option<EnrolmentConflict>,
    },
    /// The slave has erased the code, since no attempt is left; the role is the one of this device.
    CodeErased(Role),
}

/// What anyone on the topic could have made up: worth a line to the user, and never a reason to change anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Claim {
    /// A device whose key is not pinned here wants to pair, or answers.
    UnknownKey(Fingerprint),
    /// The answering device refuses this one.
    Refused(AuthRefusal),
    /// A device on this link sends frames of a later version of the protocol.
    LaterVersion,
    /// Another master sends on the topic that this master listens on.
    OtherMaster,
    /// Another device answers the masters that this slave answers.
    OtherSlave,
    /// A master enrols by code, and this slave was not given one.
    PeerHasCode,
    /// A master pairs without a code, and this slave was given one.
    PeerHasNoCode,
}
