//! What the broker says for us if this process dies: a sealed message of the stream, which the broker gets with CONNECT, before
//! there is anything to send. So the number of the stream is taken then.

use std::time::Instant;

use rand::rngs::ThreadRng;

use super::switching::{ActiveStream, SealingState};
use super::{OutgoingStream, SealedStream};
use crate::send::outgoing::{WillMessage, WillOf, WillStream};
use crate::{Error, Exit, Result};

impl SealedStream {
    /// The stream whose number was taken for a will, if its session is the one to use now.
    pub(super) fn take_reserved(&mut self) -> Result<Option<Box<ActiveStream>>> {
        let SealingState::Reserved(stream) = &self.state else { return Ok(None) };
        let is_current = self.current_session()?.id == stream.session.id;
        let SealingState::Reserved(stream) = self.state.take() else { return Ok(None) };
        if is_current {
            return Ok(Some(stream));
        }
        // The receiver would miss it.
        self.ended.counted(&stream, 0);
        self.state = SealingState::Idle;
        Ok(None)
    }
}

impl WillStream for SealedStream {
    fn will_of(&mut self, now: Instant) -> Result<Option<WillOf>> {
        if self.state.is_unused() {
            self.sessions.refresh_if_due(now)?;
            if let Ok(session) = self.current_session() {
                let reserved = match self.take_reserved()? {
                    Some(reserved) => Some(reserved),
                    None => self.new_stream_once_space(session, None, now)?,
                };
                if let Some(reserved) = reserved {
                    self.topics = reserved.session.topics.clone();
                    self.state = SealingState::Reserved(reserved);
                }
            }
        }
        Ok(self.state.will_stream().map(|stream| WillOf::Stream(stream.sender.id())))
    }

    fn will(&mut self, text: &str, number: u32, rng: &mut ThreadRng) -> Result<WillMessage> {
        let Some(stream) = self.state.will_stream() else {
            return Err(Error::new(Exit::Failed, "cannot seal a will").because("no stream is open"));
        };
        let most = stream.sender.max_data_len();
        if text.len() > most {
            return Err(Error::new(Exit::Usage, "--will")
                .because(format!("the text has {} bytes, and a message has room for {most}", text.len()))
                .hint("shorten the text, or set a larger `max_message`"));
        }
        let payload = stream.sender.will(number, text.as_bytes(), rng)?;
        // A receiver that comes later gets it from its persistent session, or not at all: a retained one would be old.
        Ok(WillMessage { topic: self.topic().to_owned(), payload, retain: false })
    }
}
