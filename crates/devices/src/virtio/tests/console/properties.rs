//! What holds whatever drivers and the other ends of their ports do.

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Describe(usize, u16, u64, u32, u16, u16),
    Offer(usize, u16),
    Kick(usize),
    Serve,
    Order(u32, u16, u16),
    Config(u16, u8),
    Lie(bool, u64, u32),
    Restart(u32),
}

fn act() -> impl Strategy<Value = Act> {
    let len = prop_oneof![6 => 0..0x100u32, 1 => any::<u32>()];
    let flags = prop_oneof![8 => 0..4u16, 1 => Just(4u16)];
    let describe = (0..=TX1, 0..SIZE, DATA..DATA + 0x1000, len, flags, 0..SIZE);
    let id = prop_oneof![4 => 0..3u32, 1 => any::<u32>()];
    let event = prop_oneof![8 => 0..9u16, 1 => any::<u16>()];
    prop_oneof![
        8 => describe.prop_map(|(q, n, gpa, len, flags, next)| Act::Describe(q, n, gpa, len, flags, next)),
        8 => (0..=TX1, 0..SIZE).prop_map(|(q, head)| Act::Offer(q, head)),
        6 => (0..=TX1).prop_map(Act::Kick),
        4 => Just(Act::Serve),
        6 => (id, event, 0..3u16).prop_map(|(id, event, value)| Act::Order(id, event, value)),
        1 => (0..16u16, any::<u8>()).prop_map(|(at, value)| Act::Config(at, value)),
        1 => (any::<bool>(), (0..6u64).prop_map(|word| 4 * word), prop_oneof![any::<u32>(), 0..4u32])
            .prop_map(|(ring, at, value)| Act::Lie(ring, at, value)),
        1 => prop::sample::select(std::vec![0, MULTIPORT, MULTIPORT | 1 << 28, MULTIPORT | 1 << 29]).prop_map(Act::Restart),
    ]
}

proptest! {
    #![proptest_config(driver::cases(300))]

    /// Whatever driver and other end do: no panic, no endless loop, and a device that works after a reset.
    #[test]
    fn no_driver_and_no_other_end_breaks_more_than_the_device(acts in prop::collection::vec(act(), 1..80)) {
        let ([mut a, mut b], windows) = connected(100);
        for act in acts {
            a.driver.memory.forget();
            let memory = &a.driver.memory;
            match act {
                Act::Describe(q, n, gpa, len, flags, next) => {
                    driver::write_descriptor(memory, ring(q).table, n, gpa, len, flags, next);
                }
                Act::Offer(q, head) => {
                    ring(q).offer(memory, a.made[q], head);
                    a.made[q] = a.made[q].wrapping_add(1);
                }
                Act::Kick(q) => { let _ = a.kick(q); }
                Act::Serve => { a.serve(); }
                Act::Order(id, event, value) => a.order(&message(id, event, value)),
                Act::Config(at, value) => {
                    let _ = a.driver.function.write(4, 0x2000 + u64::from(at), Width::Byte, value.into(), memory);
                }
                Act::Lie(ring, at, value) => windows[usize::from(ring)].write_u32(at, value).unwrap(),
                Act::Restart(features) => a.begin(features),
            }
            prop_assert!(a.driver.memory.writes.borrow().len() < 20_000);
        }
        // Both ends anew, and the rings empty: all works.
        for (end, window) in [(&mut a, windows[0]), (&mut b, windows[1])] {
            end.driver.set_status(0);
            window.fill(0, 16, 0).unwrap();
        }
        let [to, from] = windows.map(|window| mmio::Ring::new(window).unwrap());
        let mut ends = [(to, from), (from, to)].map(|(output, input)| {
            let mut device = Console::default();
            device.add("bytes", output.producer(), input.consumer());
            Bench::of(device)
        });
        for end in &mut ends {
            end.ready(1);
            end.order(&message(1, 6, 1));
        }
        let [a, b] = &mut ends;
        a.serve();
        a.send(TX1, b"ok");
        b.buffer(RX1, 10);
        b.serve();
        prop_assert_eq!(b.used(RX1), [b"ok".to_vec()]);
    }

    /// Drivers that keep to the rules: nothing is lost or comes twice within a session, sessions come in their order, and who
    /// has closed gets nothing.
    #[test]
    fn sessions_are_kept_apart(steps in prop::collection::vec((0..2usize, 0..5u8, 1..30u32), 1..120)) {
        let (mut ends, _) = connected(60);
        // By end: whether it is open, the last word that it has sent, and the last that came. The upper half of a word counts
        // the sender's sessions.
        let (mut open, mut sent, mut came) = ([true; 2], [0u32; 2], [0u32; 2]);
        // Whether it has been open since that came.
        let mut stayed = [true; 2];
        for (n, what, len) in steps {
            let end = &mut ends[n];
            let has_room = |queue: usize| end.made[queue].wrapping_sub(end.seen[queue]) < SIZE;
            match what {
                0 | 1 if open[n] && has_room(TX1) => {
                    let words = sent[n] + 1..=sent[n] + len;
                    sent[n] += len;
                    end.send(TX1, &words.flat_map(u32::to_le_bytes).collect::<Vec<_>>());
                }
                2 if has_room(RX1) => end.buffer(RX1, 4 * len),
                3 if len < 8 => {
                    (open[n], stayed[n]) = (!open[n], false);
                    sent[n] = ((sent[n] >> 16) + u32::from(open[n])) << 16;
                    end.order(&message(1, 6, open[n].into()));
                }
                _ => {}
            }
            for n in [n, 1 - n] {
                ends[n].answers();
                ends[n].used(TX1);
                for word in ends[n].used(RX1).concat().chunks(4) {
                    prop_assert!(open[n], "who has closed gets nothing");
                    let next = u32::from_le_bytes(word.try_into().unwrap());
                    let begins = next >> 16 > came[n] >> 16 && next & 0xffff == 1;
                    let follows = if stayed[n] { next == came[n] + 1 || begins } else { next > came[n] };
                    prop_assert!(follows, "{:#x} after {:#x}", next, came[n]);
                    (came[n], stayed[n]) = (next, true);
                }
            }
        }
    }
}
