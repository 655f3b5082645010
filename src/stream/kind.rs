//! The kinds of sealed messages: each is spelled out here once (`sts-protocol(7)`, "Kinds").
//!
//! A plaintext is `kind and flags 1 | preamble | what the kind carries | padding`:
//!
//! | kind | carries |
//! |---|---|
//! | 1 data | bytes |
//! | 2 end | the last bytes, or none |
//! | 3 continued | session id 8, stream 4: where the sender continues |
//! | 4 confirm | any number of (stream 4, salt 8, next seq 4), of the session that it is sealed under |
//! | 5 kill | the sender's next stream number, 4 |
//! | 6 settled | nothing: after the end of a stream, its sender has heard that all of it is written |
//! | 7 will | bytes: what the broker says for its sender |
//! | 8 refused | stream 4, salt 8, seq 4: a message of the session that it is sealed under, which is not understood |
//! | 9 held | stream 4, salt 8, one or more (first seq 4, next seq 4): messages that came before those that are missing |
//!
//! The free kinds after these, to 15, are [skipped](super::Content::Skipped): they count as received, and nothing of
//! them is written. Kind 0 is [refused](super::Content::Unreadable). The flags above the low nibble are in
//! `content.rs`.
//!
//! # How to add a kind
//!
//! First decide where it is sent; all else follows from that:
//!
//! - **In the sequence** of the stream, as data is: it has a seq and a position. A lost one is a gap, with `--confirm`
//!   it is resent until it is confirmed, a replay is a duplicate, and with a spool it is sealed from a record of its
//!   own.
//! - **Beside it**, in a side stream, as `confirm` is ([`Kind::is_of_side_stream`]): a lost one is not missed, it is
//!   never resent, and the receiver stores nothing of it, so that a later run accepts a replay. It must say all that
//!   those before it said.
//! - **Beside it, at most once**, as `will` is: a type of frame with a seq of its own under its stream's will key
//!   ([`Sender::will`](super::Sender)). A lost one is not missed, and the receiver stores which came.
//!
//! 1. Here: a row of the table below, with the next number, and its answer in each predicate; a row of the table above.
//! 2. In `content.rs`: a variant of [`Content`](super::Content) with what it carries, encoded and parsed.
//! 3. Sealing takes nothing new. In the sequence: a source has it sealed by `OutgoingStream::seal`, as it does for data;
//!    that takes any `Content`, and keeps it where confirms are asked for. In a side stream:
//!    `LinkSessions::begin_side_stream` (`sessions/mod.rs`) makes its sender, one for each session.
//!    Use the session of the data: the receiver takes a message as a sign that its session is in use.
//! 4. What sts-recv and sts-send do with it: every `match` on `Content` is exhaustive, so the compiler lists the
//!    places. In the sequence, that of sts-recv is `SealedStreams::act` (`recv/sealed/mod.rs`). What is of a side
//!    stream is for sts-send, whose `Confirms::receive` (`send/sealed/confirms.rs`) acts on it; sts-recv has accepted
//!    and dropped it before `act`.
//! 5. The table of kinds in `sts-protocol(7)`, which `tests/manual.rs` compares with [`Kind::ALL`], and an example in
//!    `every_kind_crosses` (`stream/tests/kinds.rs`). The vectors have the number as one that is skipped: once
//!    `sealed.py` and `vectors.py` in `tests/second_implementation` know the kind, `vectors.py` makes them anew.
//!
//! The compiler does not lead to these:
//!
//! - `Receiver::accept` takes each message that has [no seq](Kind::is_in_sequence) for a `settled`.
//! - In the sequence, a kind without data is delivered as no bytes, recorded and confirmed as data is. Of no bytes
//!   nothing is written in any format: to print something for it, see `LineWriter` (`recv/printer/line_writer.rs`).
//!   A run of either tool that has written all data ends without it: whatever carries no data is not waited for
//!   ([`RetransmitQueue::is_without_data`](super::RetransmitQueue), [`Content::is_without_data`](super::Content)).
//! - With `--once`, sts-recv follows one chain of streams: [`Kind::stays_with_stream`].
//! - A message that is sent by time: the head of `send/due.rs`.
//! - With `retain`, nothing is to be done: a kind without data, known to the receiver or not, does not make the value
//!   outdated that the broker keeps of the same stream, because the receiver remembers where that is
//!   ([`KeptStream`](super::KeptStream), `stream/look.rs`). In a later stream, any message makes it outdated.
//! - `sts-pair --status` counts it as received, and as the last message. To show more of it, the receiver writes it
//!   down: an entry of its `Completion`, which the head of `cache/receive_state.rs` follows to the table.
//! - What a script sees: `--timeout` of sts-recv begins anew with each message, and `--once` may be over with a
//!   stream that has no bytes (`sts-recv.1`).

use crate::message::FrameType;

/// Makes [`Kind`] of its table, with all that follows from a row: variant, number on the wire, name in
/// `sts-protocol(7)`.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal;)*) => {
        /// What a sealed message is for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $variant,)*
        }

        impl Kind {
            /// The first number that no kind has.
            pub(super) const FIRST_FREE_CODE: u8 = Self::CODES[Self::CODES.len() - 1] + 1;

            const CODES: [u8; [$($code),*].len()] = [$($code),*];

            /// All kinds, in the order of their numbers.
            pub const ALL: [Self; [$($code),*].len()] = [$(Self::$variant),*];

            /// The kind of this number on the wire, 4 bits.
            #[must_use]
            pub(crate) fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The number on the wire.
            #[must_use]
            pub fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// The name in `sts-protocol(7)`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// Bytes to write.
    Data = 1, "data";
    /// The last bytes to write, or none.
    End = 2, "end";
    /// The sender continues in another stream.
    Continued = 3, "continued";
    /// How far streams of the other direction were written.
    Confirm = 4, "confirm";
    /// The peer ends the session and every older one.
    Kill = 5, "kill";
    /// The sender has heard that its stream is confirmed to the end.
    Settled = 6, "settled";
    /// What the broker says for its sender.
    Will = 7, "will";
    /// The receiver does not understand a frame.
    Refused = 8, "refused";
    /// Which frames the receiver has that it cannot confirm yet.
    Held = 9, "held";
}

impl Kind {
    /// Whether it carries bytes of the user's, which go to standard output.
    #[must_use]
    pub(crate) fn carries_data(self) -> bool {
        match self {
            Self::Data | Self::End | Self::Will => true,
            Self::Continued | Self::Confirm | Self::Kill | Self::Settled | Self::Refused | Self::Held => false,
        }
    }

    /// Whether it is the last message in the sequence of its stream.
    #[must_use]
    pub(crate) fn closes_stream(self) -> bool {
        match self {
            Self::End | Self::Continued | Self::Kill => true,
            Self::Data | Self::Confirm | Self::Settled | Self::Will | Self::Refused | Self::Held => false,
        }
    }

    /// Whether it is the last message of its chain: no other stream continues this one. A line that is not finished
    /// ends with it.
    #[must_use]
    pub(crate) fn ends_chain(self) -> bool {
        match self {
            Self::End => true,
            Self::Data
            | Self::Continued
            | Self::Confirm
            | Self::Kill
            | Self::Settled
            | Self::Will
            | Self::Refused
            | Self::Held => false,
        }
    }

    /// Whether it belongs to a side stream; every other kind belongs to a stream of data.
    #[must_use]
    pub(crate) fn is_of_side_stream(self) -> bool {
        match self {
            Self::Confirm | Self::Refused | Self::Held => true,
            Self::Data | Self::End | Self::Continued | Self::Kill | Self::Settled | Self::Will => false,
        }
    }

    /// Whether a run that leaves its stream with the broker for another run (`sts-recv --once`) leaves the message,
    /// too.
    ///
    /// True for every kind that counts in a stream of data: accepted alone, it would be a gap in this run, and be
    /// missing in the other. A kill counts in a stream, too, but has that to itself.
    #[must_use]
    pub(crate) fn stays_with_stream(self) -> bool {
        match self {
            Self::Data | Self::End | Self::Continued => true,
            Self::Confirm | Self::Kill | Self::Settled | Self::Will | Self::Refused | Self::Held => false,
        }
    }

    /// Whether it has a seq of its stream, also in a side stream, where it is not missed if it is lost. A `settled`
    /// comes after the message that closed the stream, and changes nothing that is stored; a will has numbers of its
    /// own.
    #[must_use]
    pub(crate) fn is_in_sequence(self) -> bool {
        match self {
            Self::Settled | Self::Will => false,
            Self::Data | Self::End | Self::Continued | Self::Confirm | Self::Kill | Self::Refused | Self::Held => true,
        }
    }

    /// Whether it takes a position of its sequence, as data does: a stream that continues this one carries it again
    /// where it is not received. A `continued` says only where that stream is.
    #[must_use]
    pub(crate) fn has_position(self) -> bool {
        match self {
            Self::Continued | Self::Settled | Self::Will => false,
            Self::Data | Self::End | Self::Confirm | Self::Kill | Self::Refused | Self::Held => true,
        }
    }

    /// Whether it ends the session that it is sealed under.
    #[must_use]
    pub(crate) fn ends_session(self) -> bool {
        self.frame_type() == FrameType::Kill
    }

    /// The type of the frame that it travels in.
    pub(crate) fn frame_type(self) -> FrameType {
        match self {
            Self::Kill => FrameType::Kill,
            Self::Will => FrameType::Will,
            Self::Data | Self::End | Self::Continued | Self::Confirm | Self::Settled | Self::Refused | Self::Held => {
                FrameType::Enc
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::content::KIND_MASK;
    use super::*;

    #[test]
    fn numbers_lead_back() {
        for code in 0..=u8::MAX {
            let of_code: Vec<_> = Kind::ALL.into_iter().filter(|kind| kind.code() == code).collect();
            assert!(of_code.len() <= 1, "{code} is the number of {of_code:?}");
            assert_eq!(Kind::from_code(code), of_code.first().copied());
        }
    }

    /// As the page has them.
    #[test]
    fn kinds_are_what_the_page_says() {
        let those =
            |is: fn(Kind) -> bool| Kind::ALL.into_iter().filter(|kind| is(*kind)).map(Kind::name).collect::<Vec<_>>();
        assert_eq!(those(Kind::carries_data), ["data", "end", "will"]);
        assert_eq!(those(Kind::closes_stream), ["end", "continued", "kill"]);
        assert_eq!(those(Kind::ends_chain), ["end"]);
        assert_eq!(those(Kind::is_of_side_stream), ["confirm", "refused", "held"]);
        assert_eq!(those(Kind::stays_with_stream), ["data", "end", "continued"]);
        assert_eq!(those(|kind| !kind.is_in_sequence()), ["settled", "will"]);
        assert_eq!(those(|kind| !kind.has_position()), ["continued", "settled", "will"]);
        assert_eq!(those(Kind::ends_session), ["kill"]);
    }

    #[test]
    fn numbers_ascend_fit_into_their_bits_and_have_each_a_name() {
        assert!(Kind::ALL.is_sorted_by_key(|kind| kind.code()));
        assert!(Kind::ALL.iter().all(|kind| (1..=KIND_MASK).contains(&kind.code())));
        let names: HashSet<_> = Kind::ALL.map(Kind::name).into();
        assert_eq!(names.len(), Kind::ALL.len());
    }

    #[test]
    fn what_counts_among_data_stays_with_its_stream() {
        let counts = |kind: &Kind| kind.is_in_sequence() && !kind.is_of_side_stream() && !kind.ends_session();
        assert!(Kind::ALL.into_iter().filter(counts).all(Kind::stays_with_stream));
    }
}
