//! SPAKE2 over Ed25519: what a one-time code adds to the key exchange, so that only two devices with the same code agree on a
//! key.
//!
//! A half shows nothing of the code, and a device that answers it can try one code with that answer: not several, and none
//! afterwards. So what counts is how many answers are looked at; the handshake counts them.

use rand::rngs::StdRng;
use rand::{CryptoRng, SeedableRng};
use spake2::{Ed25519Group, Group, Identity, Password, Spake2};
use zeroize::Zeroizing;

use crate::Rejected;
use crate::role::Role;
use crate::secret::{Key, Pake};

/// Length in bytes of a share: a point, without the byte by which the crate tells the two sides apart.
pub const SHARE_LEN: usize = 32;

const MASTER: &[u8] = b"sts2 master";
const SLAVE: &[u8] = b"sts2 slave";

/// One side's half: fresh for each attempt.
///
/// It keeps the seed of its secret instead of the secret, so that an invalid answer leaves it as it was.
pub struct Spake2Half {
    role: Role,
    code: Zeroizing<Vec<u8>>,
    seed: Zeroizing<[u8; 32]>,
    share: [u8; SHARE_LEN],
}

impl Spake2Half {
    /// Draws a fresh half for this code; an equal generator draws an equal one.
    pub fn draw(role: Role, code: &[u8], rng: &mut dyn CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut seed[..]);
        let (_, message) = start(role, code, StdRng::from_seed(*seed));
        let share = message[1..].try_into().expect("a message is one byte and a point of 32 bytes");
        Self { role, code: Zeroizing::new(code.to_vec()), seed, share }
    }

    /// What the other side gets.
    #[must_use]
    pub fn share(&self) -> &[u8; SHARE_LEN] {
        &self.share
    }

    /// The key that both sides have if both have the same code. Another code gives another key, not an error: the
    /// messages sealed under it will not open.
    ///
    /// # Errors
    /// [`Rejected::NotAuthentic`] if the share is not the one encoding of a point of the curve (RFC 8032, 5.1.3), or is of a point
    /// that does not have the order of the base point, as no secret gives it.
    pub fn agree(&self, theirs: &[u8; SHARE_LEN]) -> Result<Key<Pake>, Rejected> {
        if !is_share(theirs) {
            return Err(Rejected::NotAuthentic);
        }
        let (state, _) = start(self.role, &self.code, StdRng::from_seed(*self.seed));
        let side = match self.role {
            Role::Master => b'B',
            Role::Slave => b'A',
        };
        let message = [&[side][..], theirs].concat();
        state.finish(&message).map(|key| Key::new(Zeroizing::new(key))).map_err(|_| Rejected::NotAuthentic)
    }
}

/// The crate takes points of every order, and several encodings of some. Those are of y below 19, and none of them is of a point
/// of the base point's order.
fn is_share(share: &[u8; SHARE_LEN]) -> bool {
    Ed25519Group::bytes_to_element(share).is_some_and(|point| point.is_torsion_free() && !point.is_small_order())
}

pub(super) fn start(role: Role, code: &[u8], rng: impl CryptoRng) -> (Spake2<Ed25519Group>, Vec<u8>) {
    let (code, master, slave) = (Password::new(code), Identity::new(MASTER), Identity::new(SLAVE));
    match role {
        Role::Master => Spake2::start_a_with_rng(&code, &master, &slave, rng),
        Role::Slave => Spake2::start_b_with_rng(&code, &master, &slave, rng),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::hex;

    /// A generator that counts, so that another implementation can draw the same.
    struct Counting(u8);

    impl rand::TryRng for Counting {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            unreachable!("scalars are drawn as bytes")
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            unreachable!("scalars are drawn as bytes")
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
            for byte in bytes {
                *byte = self.0;
                self.0 += 1;
            }
            Ok(())
        }
    }

    impl rand::TryCryptoRng for Counting {}

    /// Expected values from a separate computation with another language's SPAKE2.
    #[test]
    fn known_answers() {
        let (master, of_master) = start(Role::Master, b"7KX4MP9QD", Counting(0));
        let (slave, of_slave) = start(Role::Slave, b"7KX4MP9QD", Counting(64));
        assert_eq!(of_master, hex("41c778ea6519353bbb7fbb67030b4b9c61cdc3bb0257007303a7bf191c9c4d849a"));
        assert_eq!(of_slave, hex("42b978195b8a7139f958743755f54cb8bd7bce4a7f363570a5ef48591a670faa9a"));
        let key = hex("ad74e2307d5b4224afa4ce12c878282342b48a45e013d5881dc6bbfb6a2ba893");
        assert_eq!((master.finish(&of_slave), slave.finish(&of_master)), (Ok(key.clone()), Ok(key)));
    }

    fn half(role: Role, code: &[u8], seed: u64) -> Spake2Half {
        Spake2Half::draw(role, code, &mut StdRng::seed_from_u64(seed))
    }

    #[test]
    fn the_same_code_agrees_and_another_does_not() {
        let (master, slave) = (half(Role::Master, b"code", 1), half(Role::Slave, b"code", 2));
        let key = master.agree(slave.share()).unwrap();
        assert_eq!(slave.agree(master.share()).unwrap(), key);
        assert_eq!(master.agree(slave.share()).unwrap(), key, "a half can be asked again");
        let other = half(Role::Slave, b"cope", 2);
        assert_ne!(other.share(), slave.share());
        assert_ne!(other.agree(master.share()).unwrap(), key);
        assert_ne!(master.agree(other.share()).unwrap(), key);
    }

    #[test]
    fn an_equal_generator_draws_an_equal_half() {
        assert_eq!(half(Role::Slave, b"code", 1).share(), half(Role::Slave, b"code", 1).share());
        assert_ne!(half(Role::Slave, b"code", 1).share(), half(Role::Slave, b"code", 2).share());
    }

    #[test]
    fn a_reflected_share_agrees_on_nothing_that_its_owner_knows() {
        let (master, slave) = (half(Role::Master, b"code", 1), half(Role::Slave, b"code", 2));
        let key = master.agree(slave.share()).unwrap();
        assert_ne!(master.agree(master.share()).unwrap(), key);
        assert_ne!(slave.agree(slave.share()).unwrap(), key);
    }

    #[test]
    fn what_is_no_point_of_the_group_is_refused() {
        let master = half(Role::Master, b"code", 1);
        let accepted = (0..=u8::MAX).filter(|byte| master.agree(&[*byte; SHARE_LEN]).is_ok()).count();
        assert!(
            (4..32).contains(&accepted),
            "half of all encodings are points, an eighth of those in the group: {accepted}"
        );
    }

    /// The number y and the sign of x, of which an encoding is made.
    fn encoding(y: [u8; 2], above: u8, sign: u8) -> [u8; SHARE_LEN] {
        let mut bytes = [above; SHARE_LEN];
        bytes[0] = y[0];
        bytes[1] = y[1];
        bytes[31] = (above & 0x7f) | sign;
        bytes
    }

    /// The encodings of y + p for all y for which that fits: there is no other way to encode a point twice, but for the sign
    /// of x = 0, whose points are of small order.
    #[test]
    fn no_second_encoding_of_a_point_is_accepted() {
        let master = half(Role::Master, b"code", 1);
        let mut points = 0;
        for y in 0..19 {
            for sign in [0, 0x80] {
                let second = encoding([y + 0xed, 0xff], 0xff, sign);
                points += usize::from(Ed25519Group::bytes_to_element(&second).is_some());
                assert_eq!(master.agree(&second), Err(Rejected::NotAuthentic), "{y}");
            }
        }
        assert!((10..30).contains(&points), "about half of them are points: {points}");
    }

    #[test]
    fn a_share_with_a_point_of_small_order_added_is_refused() {
        let (master, slave) = (half(Role::Master, b"code", 1), half(Role::Slave, b"code", 2));
        let point = |share: &[u8]| Ed25519Group::bytes_to_element(share).unwrap();
        let of_order_2 = point(&encoding([0xec, 0xff], 0xff, 0));
        let mixed: [u8; SHARE_LEN] =
            Ed25519Group::element_to_bytes(&(point(slave.share()) + of_order_2)).try_into().unwrap();
        assert!(!point(&mixed).is_small_order());
        assert_eq!(master.agree(&mixed), Err(Rejected::NotAuthentic));
        assert!(master.agree(slave.share()).is_ok());
    }

    #[test]
    fn a_point_of_small_order_is_refused() {
        let master = half(Role::Master, b"code", 1);
        let of_order_8 = [
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        ];
        let of_order_8 = of_order_8.map(|text| <[u8; SHARE_LEN]>::try_from(hex(text)).unwrap());
        let others = [encoding([1, 0], 0, 0), encoding([0, 0], 0, 0), encoding([0xec, 0xff], 0xff, 0)];
        for share in of_order_8.into_iter().chain(others) {
            assert!(Ed25519Group::bytes_to_element(&share).is_some_and(|point| point.is_small_order()));
            for sign in [0, 0x80] {
                let mut share = share;
                share[31] ^= sign;
                assert_eq!(master.agree(&share), Err(Rejected::NotAuthentic));
            }
        }
    }
}
