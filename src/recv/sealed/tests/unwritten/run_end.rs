//! Claim: a run that ends with messages that standard output did not take leaves them to the next one, whatever it was told.

use super::*;

fn will(sender: &mut Sender) -> bytes::Bytes {
    sender.will(0, b"gone\n", &mut StdRng::seed_from_u64(1)).unwrap()
}

/// Accepts that a stream has ended, which is told.
fn tell_end(run: &mut Run<'_>, ended: &Sender) -> Delivery {
    let mut teller = run.sender(2);
    teller.begin_with(Preamble { ended: vec![told(ended, 5, None)], ..Preamble::default() });
    run.accept(&message(&mut teller), false)
}

#[test]
fn what_is_not_written_when_a_run_ends_is_wanted_by_the_next_one_though_its_stream_is_known_to_have_ended() {
    let report = silent();
    for (is_will, is_closed) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut run = Run::new(&report);
        let mut unwritten = run.sender(0);
        let came = if is_will { will(&mut unwritten) } else { message(&mut unwritten) };
        let mut waiting = vec![run.accept(&came, false)];
        if is_closed {
            let closing = message(&mut headless(&run, 1, &run.sender(9), 0));
            waiting.push(run.accept(&closing, true));
        }
        waiting.push(tell_end(&mut run, &unwritten));
        run.streams.close(run.now).unwrap();
        run.restart();
        assert_eq!(run.accept(&came, false).data.len(), waiting[0].data.len(), "will: {is_will}, closed: {is_closed}");
    }
}

#[test]
fn a_stream_is_not_over_before_its_will_is_written() {
    let report = silent();
    for is_closed in [false, true] {
        let mut run = Run::new(&report);
        let mut left = run.sender(0);
        let waiting = run.accept(&will(&mut left), false);
        let closing = if is_closed {
            let closing = message(&mut headless(&run, 1, &run.sender(9), 0));
            run.accept(&closing, true)
        } else {
            tell_end(&mut run, &left)
        };
        run.write(closing);
        run.now += Duration::from_secs(5);
        assert!(run.next().is_none() && !run.written(left.id()).1, "closed: {is_closed}");
        run.write(waiting);
        run.write_all();
        assert!(run.written(left.id()).1);
    }
}
