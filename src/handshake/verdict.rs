//! How a slave answers an AUTHREQ in step 4, as numbers on the wire: a signed verdict for a master that it has
//! authenticated, a refusal for any other.

/// The slave's verdict on an authentic AUTHREQ, inside what it seals and signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The session is agreed.
    Agreed = 0,
    /// The two configurations ask for different suites.
    SuiteDiffers = 1,
    /// The master has the code, and this slave cannot pin it.
    EnrolmentConflict = 2,
}

impl Verdict {
    const ALL: [Self; 3] = [Self::Agreed, Self::SuiteDiffers, Self::EnrolmentConflict];

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.code() == code)
    }

    pub(super) fn code(self) -> u8 {
        // The discriminants are the numbers.
        self as u8
    }
}

/// Why a slave refuses an AUTHREQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AuthRefusal {
    /// The master's key is not pinned, or not allowed on this link.
    UnknownKey,
    /// AUTHREQ did not open: the two sides were given different codes.
    WrongCode,
    /// As [`AuthRefusal::WrongCode`], and no attempt is left.
    CodeErased,
    /// A number that this version does not know.
    Other(u8),
}

impl AuthRefusal {
    const UNKNOWN_KEY: u8 = 1;
    const WRONG_CODE: u8 = 2;
    const CODE_ERASED: u8 = 3;

    pub(super) fn from_code(code: u8) -> Self {
        match code {
            Self::UNKNOWN_KEY => Self::UnknownKey,
            Self::WRONG_CODE => Self::WrongCode,
            Self::CODE_ERASED => Self::CodeErased,
            other => Self::Other(other),
        }
    }

    pub(super) fn code(self) -> u8 {
        match self {
            Self::UnknownKey => Self::UNKNOWN_KEY,
            Self::WrongCode => Self::WRONG_CODE,
            Self::CodeErased => Self::CODE_ERASED,
            Self::Other(code) => code,
        }
    }
}
