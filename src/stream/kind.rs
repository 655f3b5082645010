//! The kinds of sealed messages: each is one row of a table here (`sts-protocol(7)`, "Kinds").
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
//! | 9 sack | stream 4, salt 8, one or more (first seq 4, next seq 4): messages that are here, after others that are missing (RFC 2018) |
//!
//! The free kinds after these, to 15, are [skipped](super::Content::Skipped): they count as received, and nothing of
//! them is written. Kind 0 is [refused](super::Content::Unreadable). The flags above the low nibble are in
//! `content.rs`.
//!
//! A new kind is a row: its [`Place`] and whether it carries data. Sender, receiver, confirms, retransmission, the spool and
//! the state files follow from these, and ask for no kind by its name. What is sent in the sequence without data is
//! handled as data of no bytes: it is delivered, recorded and confirmed, and nothing is written for it. With `--confirm`, once
//! the input has ended and all data is confirmed, no run waits for its confirm for long
//! ([`RetransmitQueue::is_without_data`](super::RetransmitQueue), [`Content::is_without_data`](super::Content)); before that,
//! and without `--confirm`, it is waited for as data is (`send/due.rs`). The value that the broker keeps with `retain` stays the
//! newest one ([`KeptStream`](super::KeptStream)), and `sts-pair --status` counts it as received.

use crate::message::FrameType;

/// Where a kind is sent. What else sender and receiver must know of it follows from that, in the methods of [`Kind`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the sequence of a stream, as data is: it has a seq and a position. A lost one is a gap, with `--confirm` it is
    /// resent until it is confirmed, a replay is a duplicate, and with a spool it is sealed from a record of its own.
    Sequence,
    /// The last message of the sequence, which no other stream continues.
    EndOfSequence,
    /// The last message of a stream whose sequence another stream continues: it has a seq, and no position.
    EndOfStream,
    /// The only message of its stream, which ends the session that it is sealed under. It travels in a KILL.
    OnlyOne,
    /// After the message that closed the stream: nothing that is stored changes with it.
    AfterEnd,
    /// In a side stream, from the receiver of data to its sender: a lost one is not missed, it is never resent, and
    /// nothing of it is stored, so that a later run accepts a replay. Each must say all that those before it said.
    SideStream,
    /// Beside its stream, at most once for each seq of its own: in a WILL, under the stream's will key. A lost one is not
    /// missed, and the receiver stores which came.
    BesideStream,
}

/// Whether a kind carries bytes of the user's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carries {
    Data,
    NoData,
}

/// Makes [`Kind`] of its table, with all that follows from a row: variant, number on the wire, name in
/// `sts-protocol(7)`, [`Place`], [`Carries`].
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $place:ident, $carries:ident;)*) => {
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

            fn place(self) -> Place {
                match self {
                    $(Self::$variant => Place::$place,)*
                }
            }

            fn carries(self) -> Carries {
                match self {
                    $(Self::$variant => Carries::$carries,)*
                }
            }
        }
    };
}

kinds! {
    /// Bytes to write.
    Data = 1, "data", Sequence, Data;
    /// The last bytes to write, or none.
    End = 2, "end", EndOfSequence, Data;
    /// The sender continues in another stream.
    Continued = 3, "continued", EndOfStream, NoData;
    /// How far streams of the other direction were written.
    Confirm = 4, "confirm", SideStream, NoData;
    /// The peer ends the session and every older one.
    Kill = 5, "kill", OnlyOne, NoData;
    /// The sender has heard that its stream is confirmed to the end.
    Settled = 6, "settled", AfterEnd, NoData;
    /// What the broker says for its sender.
    Will = 7, "will", BesideStream, Data;
    /// The receiver does not understand a frame.
    Refused = 8, "refused", SideStream, NoData;
    /// Which messages the receiver has that it cannot confirm yet.
    Sack = 9, "sack", SideStream, NoData;
}

impl Kind {
    /// Whether it carries bytes of the user's, which go to standard output.
    #[must_use]
    pub(crate) fn carries_data(self) -> bool {
        self.carries() == Carries::Data
    }

    /// Whether it is the last message in the sequence of its stream.
    #[must_use]
    pub(crate) fn closes_stream(self) -> bool {
        match self.place() {
            Place::EndOfSequence | Place::EndOfStream | Place::OnlyOne => true,
            Place::Sequence | Place::AfterEnd | Place::SideStream | Place::BesideStream => false,
        }
    }

    /// Whether it is the last message of its chain: no other stream continues this one. A line that is not finished
    /// ends with it.
    #[must_use]
    pub(crate) fn ends_chain(self) -> bool {
        self.place() == Place::EndOfSequence
    }

    /// Whether it belongs to a side stream; every other kind belongs to a stream of data.
    #[must_use]
    pub(crate) fn is_of_side_stream(self) -> bool {
        self.place() == Place::SideStream
    }

    /// Whether a run that leaves its stream with the broker for another run (`sts-recv --once`) leaves the message,
    /// too.
    ///
    /// True for every kind that counts in a stream of data: accepted alone, it would be a gap in this run, and be
    /// missing in the other. A kill counts in a stream, too, but has that to itself.
    #[must_use]
    pub(crate) fn stays_with_stream(self) -> bool {
        match self.place() {
            Place::Sequence | Place::EndOfSequence | Place::EndOfStream => true,
            Place::OnlyOne | Place::AfterEnd | Place::SideStream | Place::BesideStream => false,
        }
    }

    /// Whether it has a seq of its stream, also in a side stream, where it is not missed if it is lost. A `settled`
    /// comes after the message that closed the stream; a will has numbers of its own.
    #[must_use]
    pub(crate) fn is_in_sequence(self) -> bool {
        match self.place() {
            Place::AfterEnd | Place::BesideStream => false,
            Place::Sequence | Place::EndOfSequence | Place::EndOfStream | Place::OnlyOne | Place::SideStream => true,
        }
    }

    /// Whether it takes a position of its sequence, as data does: a stream that continues this one carries it again
    /// where it is not received. A `continued` says only where that stream is.
    #[must_use]
    pub(crate) fn has_position(self) -> bool {
        match self.place() {
            Place::EndOfStream | Place::AfterEnd | Place::BesideStream => false,
            Place::Sequence | Place::EndOfSequence | Place::OnlyOne | Place::SideStream => true,
        }
    }

    /// Whether it ends the session that it is sealed under.
    #[must_use]
    pub(crate) fn ends_session(self) -> bool {
        self.place() == Place::OnlyOne
    }

    /// The type of the frame that it travels in.
    pub(crate) fn frame_type(self) -> FrameType {
        match self.place() {
            Place::OnlyOne => FrameType::Kill,
            Place::BesideStream => FrameType::Will,
            Place::Sequence | Place::EndOfSequence | Place::EndOfStream | Place::AfterEnd | Place::SideStream => {
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
        assert_eq!(those(Kind::is_of_side_stream), ["confirm", "refused", "sack"]);
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
}
