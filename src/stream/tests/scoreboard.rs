//! Claim: whatever becomes of the frames, the sums are those over the frames that are there.

use std::time::Instant;

use super::*;
use crate::stream::congestion::Transmission;
use crate::stream::scoreboard::{Scoreboard, SentFrame, SentState};

/// What is done to a scoreboard.
#[derive(Clone, Debug)]
enum Change {
    Push(usize),
    Pop,
    Set(prop::sample::Index, SentState),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let transmission = Transmission { number: 0, at: Instant::now(), is_repeat: false };
    let states = [SentState::InFlight(transmission), SentState::Sacked(transmission), SentState::Lost];
    let change = prop_oneof![
        (1usize..100).prop_map(Change::Push),
        Just(Change::Pop),
        (any::<prop::sample::Index>(), prop::sample::select(states.to_vec()))
            .prop_map(|(at, state)| Change::Set(at, state)),
    ];
    prop::collection::vec(change, 0..40)
}

proptest! {
    #[test]
    fn the_sums_are_those_over_the_frames(changes in changes()) {
        let now = Instant::now();
        let mut board = Scoreboard::default();
        // The same, without sums: of each frame its seq, length and state.
        let mut frames = std::collections::VecDeque::<(u32, usize, SentState)>::new();
        let mut next = 0;
        for change in changes {
            match change {
                Change::Push(len) => {
                    let state = SentState::InFlight(Transmission { number: next.into(), at: now, is_repeat: false });
                    board.push(SentFrame { sealed: Bytes::from(vec![0; len]), data_len: len / 2, state });
                    frames.push_back((next, len, state));
                    next += 1;
                }
                Change::Pop => {
                    let popped = board.pop().map(|frame| (frame.sealed.len(), frame.data_len, frame.state));
                    let expected = frames.pop_front().map(|(_, len, state)| (len, len / 2, state));
                    prop_assert_eq!(popped, expected);
                }
                Change::Set(at, state) if !frames.is_empty() => {
                    let index = at.index(frames.len());
                    board.set_state(frames[index].0, state);
                    frames[index].2 = state;
                }
                Change::Set(..) => {}
            }
            let sum = |of: &dyn Fn(&(u32, usize, SentState)) -> usize| frames.iter().map(of).sum::<usize>();
            prop_assert_eq!((board.len(), board.is_empty()), (frames.len(), frames.is_empty()));
            prop_assert_eq!(board.seqs(), frames.front().map_or(next, |frame| frame.0)..next);
            prop_assert_eq!(board.bytes(), sum(&|frame| frame.1));
            prop_assert_eq!(board.data_bytes(), sum(&|frame| frame.1 / 2));
            prop_assert_eq!(board.in_flight(), sum(&|frame| if matches!(frame.2, SentState::InFlight(_)) { frame.1 } else { 0 }));
            prop_assert_eq!(board.first_lost(), frames.iter().find(|frame| frame.2 == SentState::Lost).map(|frame| frame.0));
            for &(seq, len, state) in &frames {
                prop_assert_eq!((board.sealed(seq).len(), board.state(seq)), (len, state));
            }
        }
        let rest: Vec<_> = board.into_iter().map(|frame| frame.sealed.len()).collect();
        prop_assert_eq!(rest, frames.iter().map(|frame| frame.1).collect::<Vec<_>>());
    }
}
