//! Claim: whatever is lost, refused or begun late, two machines agree on one key, and neither says more than the other can take.

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

/// A device in virtual time.
struct Device {
    pairing: Pairing,
    rng: StdRng,
    key: Option<Key<LegacyCipher>>,
    agreed: u32,
    sent: Vec<(Instant, Frame)>,
}

impl Device {
    fn new(role: Role, seed: u64, now: Instant) -> Self {
        let (mut pairing, mut rng) = (Pairing::new(role), StdRng::seed_from_u64(seed));
        pairing.begin(now, &mut rng);
        Self { pairing, rng, key: None, agreed: 0, sent: Vec::new() }
    }

    /// What it sends now.
    fn poll(&mut self, now: Instant) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(output) = self.pairing.poll(now, &mut self.rng) {
            match output {
                Output::Send(frame) => {
                    self.sent.push((now, frame.clone()));
                    frames.push(frame);
                }
                Output::Store(key) => self.key = Some(key),
                Output::Agreed => self.agreed += 1,
                Output::Abandon => self.key = None,
            }
        }
        frames
    }

    fn count(&self, name: &str) -> usize {
        self.sent.iter().filter(|(_, frame)| frame.name() == name).count()
    }
}

/// Runs both for this long; `lost` says which messages do not arrive, by their number.
fn run(master: &mut Device, slave: &mut Device, begun: Instant, secs: u64, mut lost: impl FnMut(u32, &Frame) -> bool) {
    let (mut now, mut number) = (begun, 0);
    while now < begun + Duration::from_secs(secs) {
        loop {
            let (to_slave, to_master) = (master.poll(now), slave.poll(now));
            if to_slave.is_empty() && to_master.is_empty() {
                break;
            }
            for (frames, device) in [(to_slave, &mut *slave), (to_master, &mut *master)] {
                for frame in frames {
                    number += 1;
                    if !lost(number, &frame) {
                        device.pairing.accept(&frame, now, &mut device.rng);
                    }
                }
            }
        }
        let deadlines = [master.pairing.deadline(), slave.pairing.deadline()];
        let Some(next) = deadlines.into_iter().flatten().min() else { break };
        assert!(next > now || master.agreed > 0, "a deadline in the past would spin");
        now = next.max(now);
        if master.agreed > 0 && slave.agreed > 0 {
            break;
        }
    }
}

fn pair_of(seed: u64, now: Instant) -> (Device, Device) {
    (Device::new(Role::Master, seed, now), Device::new(Role::Slave, seed + 1000, now))
}

fn assert_agreed(master: &Device, slave: &Device) {
    assert_eq!((master.agreed, slave.agreed), (1, 1));
    let (one, other) = (master.key.as_ref().unwrap(), slave.key.as_ref().unwrap());
    assert!(one == other && is_accepted(one));
}

#[test]
fn two_devices_agree_in_ten_messages() {
    let now = Instant::now();
    for seed in 0..20 {
        let (mut master, mut slave) = pair_of(seed, now);
        run(&mut master, &mut slave, now, 20, |_, _| false);
        assert_agreed(&master, &slave);
        assert_eq!((master.sent.len(), slave.sent.len()), (5, 5));
    }
}

#[test]
fn a_master_asks_until_a_slave_is_there_with_the_same_ids() {
    let now = Instant::now();
    let (mut master, mut slave) = pair_of(1, now);
    run(&mut master, &mut slave, now, 300, |number, _| number <= 12);
    assert_agreed(&master, &slave);
    let init_reqs: Vec<_> = master.sent.iter().filter(|(_, frame)| frame.name() == "INITREQ").collect();
    assert_eq!(init_reqs.len(), 13);
    assert!(init_reqs.windows(2).all(|pair| pair[0].1 == pair[1].1 && pair[1].0 - pair[0].0 >= Duration::from_secs(1)));
}

/// A slave that refuses offers, as the old program does for one key in nine: it sends nothing.
#[test]
fn a_master_offers_other_keys_and_finds_out_which_one_was_taken() {
    let now = Instant::now();
    for refused in 0..MAX_REFUSED {
        let (mut master, mut slave) = pair_of(7, now);
        // Messages 7, 8, ... are the offers.
        run(&mut master, &mut slave, now, 25, |number, _| (7..7 + refused).contains(&number));
        assert_eq!(master.count("RDYREQ"), usize::try_from(refused).unwrap() + 1);
        assert_eq!((master.agreed, slave.agreed), (1, 1));
    }
}

const MAX_REFUSED: u32 = 7;

/// Draws these keys, then others.
struct Keys(Vec<SecretKey>, StdRng);

impl Draw for Keys {
    fn id(&mut self) -> Id {
        self.1.id()
    }

    fn secret_key(&mut self) -> SecretKey {
        self.0.pop().unwrap_or_else(|| self.1.secret_key())
    }
}

#[test]
fn the_first_key_that_passes_the_check_is_the_one() {
    let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(3));
    let peer = SecretKey::generate(&mut rng);
    let refused = std::iter::repeat_with(|| SecretKey::generate(&mut rng))
        .find(|key| !is_accepted(&key.agree(&peer.public()).unwrap()))
        .unwrap();
    let mut draw = Keys(vec![refused], StdRng::seed_from_u64(4));
    let mut master = Pairing::new(Role::Master);
    master.begin(now, &mut draw);
    let Some(Output::Send(Frame::InitReq { master: id, .. })) = master.poll(now, &mut draw) else { panic!() };
    for frame in [Frame::InitAck, Frame::AuthAck, Frame::AuthReq(id)] {
        assert!(master.accept(&frame, now, &mut draw));
        while master.poll(now, &mut draw).is_some() {}
    }
    // The slave takes the second of three: RDYACK comes late.
    let mut offers = Vec::new();
    for secs in [2, 4] {
        let Some(Output::Send(Frame::RdyReq(key))) = master.poll(now + Duration::from_secs(secs), &mut draw) else {
            panic!()
        };
        offers.push(key);
    }
    let later = now + Duration::from_secs(5);
    assert!(master.accept(&Frame::RdyAck, later, &mut draw));
    assert!(master.accept(&Frame::RdyReq(peer.public()), later, &mut draw));
    let taken = offers.iter().filter_map(|offer| peer.agree(offer)).find(is_accepted).unwrap();
    assert_eq!(master.poll(later, &mut draw), Some(Output::Store(taken)));
    assert_eq!(master.poll(later, &mut draw), Some(Output::Send(Frame::RdyAck)));
    assert_eq!(master.poll(later + Duration::from_millis(1499), &mut draw), None);
    assert_eq!(master.poll(later + Duration::from_millis(1500), &mut draw), Some(Output::Agreed));
}

#[test]
fn a_master_that_starts_again_is_answered_and_what_was_stored_is_abandoned() {
    let now = Instant::now();
    let (mut master, mut slave) = pair_of(5, now);
    // The last RDYACK is lost, and the slave's repeated RDYREQs, too: it never hears that the master is ready.
    run(&mut master, &mut slave, now, 29, |number, _| number >= 10);
    assert_eq!((master.agreed, slave.agreed), (1, 0));
    assert!(slave.key.is_some());
    let mut again = Device::new(Role::Master, 6, now);
    run(&mut again, &mut slave, now + Duration::from_secs(29), 20, |_, _| false);
    assert_agreed(&again, &slave);
}

#[test]
fn a_slave_forgets_a_master_that_has_given_up() {
    let now = Instant::now();
    let (mut master, mut slave) = pair_of(5, now);
    run(&mut master, &mut slave, now, 29, |number, _| number >= 10);
    assert!(slave.pairing.is_under_way() && slave.key.is_some());
    assert!(slave.poll(now + Duration::from_secs(30)).is_empty());
    assert!(!slave.pairing.is_under_way() && slave.key.is_none() && slave.pairing.deadline().is_none());
}

#[test]
fn what_does_not_belong_here_changes_nothing() {
    let now = Instant::now();
    let key = SecretKey::from_bytes(&[9; 32]).unwrap().public();
    let strange = [Frame::InitAck, Frame::AuthReq([7; 31]), Frame::AuthAck, Frame::RdyAck, Frame::RdyReq(key)];
    let mut slave = Device::new(Role::Slave, 1, now);
    assert!(strange.iter().all(|frame| !slave.pairing.accept(frame, now, &mut slave.rng)));
    assert!(slave.poll(now).is_empty() && slave.pairing.deadline().is_none());
    let mut master = Device::new(Role::Master, 1, now);
    assert!(strange[1..].iter().all(|frame| !master.pairing.accept(frame, now, &mut master.rng)));
    let ids = Frame::InitReq { master: [1; 31], slave: [2; 31] };
    assert!(!master.pairing.accept(&ids, now, &mut master.rng));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// As the other device may have restarted, an attempt that is stuck is given up and another one begun.
    #[test]
    fn losses_delay_a_pairing_and_do_not_prevent_it(seed in 0u64..1000, losses in prop::collection::vec(any::<bool>(), 12)) {
        let now = Instant::now();
        let (mut master, mut slave) = pair_of(seed, now);
        // Had an offer been lost, the master could not know that the slave did not refuse it.
        let is_offer = |frame: &Frame| frame.name() == "RDYREQ";
        let is_lost = |number: u32, frame: &Frame| {
            !is_offer(frame) && losses.get(usize::try_from(number).unwrap()).copied().unwrap_or_default()
        };
        run(&mut master, &mut slave, now, 600, is_lost);
        // A lost RDYACK cannot be known to the master: then only the slave, which gives up, has no session.
        prop_assert!(master.agreed == 1);
        if slave.agreed == 1 {
            prop_assert!(master.key == slave.key);
        }
    }

    #[test]
    fn ids_are_as_long_as_the_old_program_cuts_them_and_have_no_colon(seed: u64) {
        let id = StdRng::seed_from_u64(seed).id();
        prop_assert!(id.iter().all(u8::is_ascii_alphanumeric));
    }
}
