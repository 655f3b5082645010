//! One step of rustls: what it is given, what it asks for, and what it did.

use rustls::client::ClientConnectionData;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, WriteTraffic};

use super::records::{Outgoing, Unread};

/// What rustls is given beside what came in.
pub(super) enum Task<'a> {
    /// Nothing: it may decrypt into this buffer; the number of its bytes that are used.
    Receive(&'a mut [u8], usize),
    Send(&'a [u8]),
    CloseNotify,
}

/// What rustls did, or waits for.
pub(super) enum TlsStep {
    /// It may do more at once.
    Again,
    /// More must come from the other end.
    NeedsInput,
    /// Nothing is left to decrypt, and what was to be sent is encrypted.
    Idle,
    /// The other end says that nothing more will come.
    End,
}

impl Task<'_> {
    /// Whether there is no room for what comes next.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Task::Receive(out, used) if !out.is_empty() && *used == out.len())
    }

    /// Takes decrypted bytes; returns those that have no room.
    fn receive<'p>(&mut self, plain: &'p [u8]) -> &'p [u8] {
        let Task::Receive(out, used) = self else { return plain };
        let fits = plain.len().min(out.len() - *used);
        out[*used..*used + fits].copy_from_slice(&plain[..fits]);
        *used += fits;
        &plain[fits..]
    }

    /// How many bytes were taken.
    pub(super) fn received(&self) -> usize {
        match self {
            Task::Receive(_, used) => *used,
            Task::Send(_) | Task::CloseNotify => 0,
        }
    }
}

/// Does what rustls asks for.
pub(super) fn handle(
    state: ConnectionState<'_, '_, ClientConnectionData>,
    task: &mut Task<'_>,
    outgoing: &mut Outgoing,
    unread: &mut Unread,
) -> Result<TlsStep, rustls::Error> {
    Ok(match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let rest = task.receive(record?.payload);
                unread.push(rest);
            }
            TlsStep::Again
        }
        ConnectionState::EncodeTlsData(mut data) => {
            outgoing.put(0, |space| data.encode(space).map_err(|error| missing_to_encode(&error)))?;
            TlsStep::Again
        }
        // It is in `outgoing`, from where everything leaves in this order.
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            TlsStep::Again
        }
        ConnectionState::WriteTraffic(traffic) => {
            write(traffic, task, outgoing)?;
            TlsStep::Idle
        }
        ConnectionState::BlockedHandshake => TlsStep::NeedsInput,
        ConnectionState::PeerClosed | ConnectionState::Closed => TlsStep::End,
        _ => return Err(rustls::Error::General("an unknown state of the connection".to_owned())),
    })
}

/// Encrypts what the task is to send.
fn write(
    mut traffic: WriteTraffic<'_, ClientConnectionData>,
    task: &Task<'_>,
    outgoing: &mut Outgoing,
) -> Result<(), rustls::Error> {
    match task {
        Task::Receive(..) => Ok(()),
        Task::Send(plain) => {
            outgoing.put(plain.len(), |space| traffic.encrypt(plain, space).map_err(|error| missing_to_encrypt(&error)))
        }
        Task::CloseNotify => {
            outgoing.put(0, |space| traffic.queue_close_notify(space).map_err(|error| missing_to_encrypt(&error)))
        }
    }
}

/// How much room rustls needs.
fn missing_to_encode(error: &EncodeError) -> Result<usize, rustls::Error> {
    match error {
        EncodeError::InsufficientSize(needed) => Ok(needed.required_size),
        EncodeError::AlreadyEncoded => Err(rustls::Error::General(error.to_string())),
    }
}

/// As [`missing_to_encode`].
fn missing_to_encrypt(error: &EncryptError) -> Result<usize, rustls::Error> {
    match error {
        EncryptError::InsufficientSize(needed) => Ok(needed.required_size),
        EncryptError::EncryptExhausted => Err(rustls::Error::EncryptError),
    }
}
