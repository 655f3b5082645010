//! The old program, simulated: what it does on the wire, as it was measured, and not what it should do.
//!
//! Written from the description of its protocol, with other crates than ours where there are any, so that a misunderstanding of
//! ours is not repeated here. One thread is one session, from its command `start` to its end.

mod session;

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rumqttc::{Client, Event, Incoming, MqttOptions, QoS};

use self::session::Session;
use crate::process::wait_until;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Master,
    Slave,
}

/// What a test sees of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Encryption is on.
    pub(super) is_on: bool,
    /// The pairing is over for it: it is on, or will be after its pause.
    pub(super) is_agreed: bool,
    /// Each message that it displayed.
    pub(super) displayed: Vec<Vec<u8>>,
    /// All that moved its chain, or would have.
    pub(super) log: Vec<Logged>,
    /// Why the session is over.
    pub(super) ended: Option<&'static str>,
}

/// One message, in the order in which it sent and received them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Logged {
    /// It sent a text, which the broker got unless it is `lost`.
    Sent { lost: bool },
    /// It displayed this.
    Displayed(Vec<u8>),
    /// A message for it was lost.
    Missed,
}

enum Input {
    Subscribed,
    Message(Vec<u8>),
    /// The command `sendenc`; unless it is `lost`, the broker gets it.
    Text {
        text: String,
        lost: bool,
    },
    /// The command `sendenc`, of a message that is on its way until [`Input::Arrive`].
    Delayed(String),
    Arrive,
    /// The message that comes after so many others is lost on its way.
    LoseAfter(usize),
    /// The command `stop`.
    Stop,
    /// Somebody switches it off.
    SwitchOff,
}

pub(super) struct OldProgram {
    inputs: Sender<Input>,
    seen: Arc<Mutex<Seen>>,
}

/// How it is configured, and where its random numbers begin.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) port: u16,
    pub(super) role: Role,
    pub(super) is_cbc: bool,
    pub(super) publish: String,
    pub(super) listen: String,
    pub(super) seed: u64,
}

impl OldProgram {
    /// The command `start`.
    pub(super) fn start(settings: Settings) -> Self {
        let (inputs, received) = channel();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut options = MqttOptions::new(format!("old-{:x}", settings.seed), "127.0.0.1", settings.port);
        options.set_credentials("user", "word").set_keep_alive(Duration::from_secs(600));
        let (client, mut connection) = Client::new(options, 100);
        client.subscribe(settings.listen.clone(), QoS::AtMostOnce).unwrap();
        let events = inputs.clone();
        thread::spawn(move || {
            for event in connection.iter() {
                let input = match event {
                    Ok(Event::Incoming(Incoming::SubAck(_))) => Input::Subscribed,
                    Ok(Event::Incoming(Incoming::Publish(publish))) => Input::Message(publish.payload.to_vec()),
                    Ok(_) => continue,
                    Err(_) => break,
                };
                if events.send(input).is_err() {
                    break;
                }
            }
        });
        let session = Session::new(client, Arc::clone(&seen), settings);
        thread::spawn(move || session.run(&received));
        Self { inputs, seen }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn wait(&self, what: &str, condition: impl Fn(&Seen) -> bool) {
        wait_until(&format!("the old program: {what}; now {:?}", self.seen()), || condition(&self.seen()));
    }

    /// Types this, and the shell adds its blank.
    pub(super) fn send(&self, text: &str) {
        self.inputs.send(Input::Text { text: format!("{text} "), lost: false }).unwrap();
    }

    /// As [`OldProgram::send`], of a message that no broker gets.
    pub(super) fn send_lost(&self, text: &str) {
        self.inputs.send(Input::Text { text: format!("{text} "), lost: true }).unwrap();
    }

    /// As [`OldProgram::send`], of a message that is on its way until [`OldProgram::arrive`].
    pub(super) fn send_delayed(&self, text: &str) {
        self.inputs.send(Input::Delayed(format!("{text} "))).unwrap();
    }

    pub(super) fn arrive(&self) {
        self.inputs.send(Input::Arrive).unwrap();
    }

    pub(super) fn lose_next(&self) {
        self.lose_after(0);
    }

    /// The message that comes after so many others is lost on its way.
    pub(super) fn lose_after(&self, messages: usize) {
        self.inputs.send(Input::LoseAfter(messages)).unwrap();
    }

    /// It is gone, without a word.
    pub(super) fn switch_off(&self) {
        // It may have ended before.
        self.inputs.send(Input::SwitchOff).ok();
        self.wait("its end", |seen| seen.ended.is_some());
    }

    pub(super) fn stop(&self) {
        self.inputs.send(Input::Stop).unwrap();
    }
}
