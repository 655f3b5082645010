//! Whether another device answers the INITREQs that this slave answers, as a second gateway with a copy of the configuration
//! does. A master answers each INITACK, so that this slave also sees the AUTHREQ that is for the other one.
//!
//! Nothing of that is proved: anyone who hears an AUTHREQ can send it again with another cookie.

use std::collections::VecDeque;
use std::fmt;

use crate::crypto::schedule::{Digest, Topics};

/// INITREQs that are remembered: as many as are answered in the time in which the other AUTHREQ comes.
const MAX_ANSWERED: usize = 256;

/// What came of the latest INITREQs, each named by the digest of itself and its topics.
#[derive(Default)]
pub(super) struct OtherAnswers {
    /// Those of which an AUTHREQ came with a cookie of ours, the latest last. One that comes before it may be for an earlier
    /// run of this slave.
    ours: VecDeque<Digest>,
    /// The topics on which another device answers, until that is told.
    found: Option<Topics>,
}

/// It only warns: no answer depends on it.
impl fmt::Debug for OtherAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtherAnswers")
    }
}

impl OtherAnswers {
    /// An AUTHREQ with this INITREQ came, and its cookie is ours or not.
    pub(super) fn note(&mut self, init_req: Digest, has_our_cookie: bool, topics: &Topics) {
        match (has_our_cookie, self.ours.contains(&init_req)) {
            (true, true) | (false, false) => {}
            (false, true) => self.found = Some(topics.clone()),
            (true, false) => {
                if self.ours.len() == MAX_ANSWERED {
                    self.ours.pop_front();
                }
                self.ours.push_back(init_req);
            }
        }
    }

    /// The topics on which another device answers, once for each time that this was seen.
    pub(super) fn take(&mut self) -> Option<Topics> {
        self.found.take()
    }
}
