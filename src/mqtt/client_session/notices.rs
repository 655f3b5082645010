//! What the user hears once in a run, however often it happens.

use super::outgoing_publish::{AttemptedPublish, Excess};
use super::refusal;
use crate::mqtt::codec::{Capabilities, Reason, ReasonCode};
use crate::mqtt::{ClientOptions, Event, Qos, Will};

/// What was said already.
#[derive(Debug, Default)]
pub(super) struct Notices(Vec<BrokerNotice>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BrokerNotice {
    NoSubscribers,
    RefusedForNow(ReasonCode),
    LowerQos,
    Qos(Qos),
    NotRetained,
    WillQos(Qos),
    WillNotRetained,
    MaxPacket(usize),
    SessionExpiry(u32),
    KeepAlive(u16),
}

impl Notices {
    fn once(&mut self, notice: BrokerNotice, event: impl FnOnce() -> Event) -> Option<Event> {
        if self.0.contains(&notice) {
            return None;
        }
        self.0.push(notice);
        Some(event())
    }

    /// The broker has a message, and nobody to send it to.
    pub(super) fn no_subscribers(&mut self) -> Option<Event> {
        let note = "the broker has no subscriber for a message (no matching subscribers)";
        self.once(BrokerNotice::NoSubscribers, || Event::Note(note.to_owned()))
    }

    /// The broker refused a message for a moment, as one that is over its quota does again and again.
    pub(super) fn refused_for_now(&mut self, publish: &AttemptedPublish<'_>, reason: &Reason) -> Option<Event> {
        self.once(BrokerNotice::RefusedForNow(reason.code), || {
            Event::Warning(refusal::publish_for_now(publish, reason))
        })
    }

    /// The broker took a message at QoS 2 for one at QoS 1.
    pub(super) fn lower_qos(&mut self) -> Option<Event> {
        self.once(BrokerNotice::LowerQos, || Event::Warning(refusal::lower_qos()))
    }

    /// A message asks for more than the broker bears.
    pub(super) fn excess(&mut self, excess: &Excess<'_>) -> Option<Event> {
        match excess {
            Excess::Length(publish, max) => Some(Event::TooLong(refusal::too_long(publish, *max))),
            Excess::Qos { asked, max } => {
                self.once(BrokerNotice::Qos(*max), || Event::Warning(refusal::lower_max_qos(*asked, *max)))
            }
            Excess::Retain => self.once(BrokerNotice::NotRetained, || Event::Warning(refusal::not_retained())),
        }
    }

    /// The broker bears less than the will `asked` for: it gets this one.
    pub(super) fn will(&mut self, asked: &Will, borne: &Will) -> Vec<Event> {
        let qos = (asked.qos > borne.qos)
            .then(|| (BrokerNotice::WillQos(borne.qos), refusal::lower_will_qos(asked.qos, borne.qos)));
        let retain =
            (asked.retain && !borne.retain).then(|| (BrokerNotice::WillNotRetained, refusal::will_not_retained()));
        let lower = [qos, retain].into_iter().flatten();
        lower.filter_map(|(notice, warning)| self.once(notice, || Event::Warning(warning))).collect()
    }

    /// What the broker changes of what these options ask for.
    pub(super) fn changes(&mut self, capabilities: &Capabilities, options: &ClientOptions) -> Vec<Event> {
        let Capabilities { max_packet, session_expiry, keep_alive, .. } = *capabilities;
        let packet = (max_packet < options.limits.max_send).then(|| {
            (BrokerNotice::MaxPacket(max_packet), format!("the broker accepts packets of at most {max_packet} bytes"))
        });
        let session = session_expiry
            .filter(|seconds| !options.clean_session && *seconds < options.v5.session_expiry)
            .map(|seconds| {
                let note = format!("the broker keeps the session for {seconds} seconds after a connection");
                (BrokerNotice::SessionExpiry(seconds), note)
            });
        let keep_alive = keep_alive.map(|seconds| {
            (BrokerNotice::KeepAlive(seconds), format!("the broker sets the keep-alive interval to {seconds} seconds"))
        });
        let changes = [packet, session, keep_alive].into_iter().flatten();
        changes.filter_map(|(notice, note)| self.once(notice, || Event::Note(note))).collect()
    }
}
