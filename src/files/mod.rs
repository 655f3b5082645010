//! Files that must be ours: opened without following links, checked after opening, replaced whole or not at all. Only what an
//! administrator may put in place may be a link, and each step is checked: the identity key, the known peers, and files that are
//! named by a path, such as configurations and passwords.
//!
//! Everything secret or trusted on disk goes through here, sessions and spools included. A check
//! is made on the open descriptor, never on a path, so that nothing can be swapped between the check and the use.
//! The rules are in `sts-protocol(7)`, "Session files".

mod acl;
mod append_line;
mod appender;
mod changes;
mod check;
mod dir;
mod fifo;
mod follow;
mod lock;
mod private_reader;
mod publish;
mod random_access;
mod stamp;
mod users;
mod whole;

#[cfg(test)]
mod tests;

pub(crate) use self::append_line::append_line;
pub(crate) use self::appender::{Appender, create_to_append, open_to_append};
pub(crate) use self::changes::{DirChanges, WhatChanged};
pub(crate) use self::check::{Guard, is_exposed};
pub(crate) use self::dir::Dir;
pub(crate) use self::fifo::{listen, ring};
pub(crate) use self::lock::{Lock, lock, try_lock};
pub(crate) use self::private_reader::PrivateReader;
pub(crate) use self::publish::publish;
pub(crate) use self::random_access::{RandomAccessFile, open_in_place, open_public, open_to_read};
pub(crate) use self::stamp::{Stamp, stamp, target_stamp};
pub(crate) use self::users::{run_as, us, user_name};
pub(crate) use self::whole::{
    NamedFile, Part, check_replaceable, create, read, read_path, read_private, read_up_to, remove, rename, replace,
    replace_parts,
};
