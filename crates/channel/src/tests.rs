use core::sync::atomic::{AtomicU32, Ordering};

use mmio::Window;
use proptest::prelude::*;
use std::vec;

use super::*;

/// Both ends' windows lie at small addresses here, which stand for memory of one page each.
const EVENTS: config::Window = config::Window { at: 0, len: 4096 };

fn page() -> Window {
    Window::leak(vec![0; 4096].leak())
}

fn ends(page: Window) -> [Events; 2] {
    [Events::new(page, true), Events::new(page, false)]
}

#[test]
fn each_event_is_taken_once_by_the_other_end() {
    let [mut a, mut b] = ends(page());
    assert_eq!((a.take(), b.take()), (0, 0));
    for _ in 0..3 {
        a.emit();
    }
    b.emit();
    assert_eq!((a.take(), b.take()), (1, 3));
    assert_eq!((a.take(), b.take()), (0, 0));
    assert_eq!((a.emitted(), b.received(), b.emitted(), a.received()), (3, 3, 1, 1));
}

#[test]
fn who_begins_anew_finds_the_events_that_came_meanwhile() {
    let page = page();
    let [mut a, mut b] = ends(page);
    a.emit();
    b.emit();
    assert_eq!(b.take(), 1);
    a.emit();
    let mut again = Events::new(page, false);
    assert_eq!((again.take(), again.emitted()), (1, 1));
    again.emit();
    assert_eq!(a.take(), 2);
}

#[test]
fn counters_wrap_around() {
    let page = page();
    page.write_u32(0, u32::MAX).unwrap();
    page.write_u32(68, u32::MAX).unwrap();
    let [mut a, mut b] = ends(page);
    assert_eq!(b.take(), 0);
    a.emit();
    assert_eq!((a.emitted(), b.take()), (0, 1));
}

#[test]
fn a_dataport_is_read_and_written_within_its_bounds() {
    let memory = page();
    let [writer, reader] = [Dataport::new(memory, true), Dataport::new(memory, false)];
    writer.write(4090, b"string").unwrap();
    let mut text = [0; 6];
    reader.read(4090, &mut text).unwrap();
    assert_eq!(&text, b"string");
    assert_eq!(writer.write(4091, b"string"), Err(Refused::OutOfRange));
    assert_eq!(reader.read(u64::MAX, &mut text), Err(Refused::OutOfRange));
    assert_eq!(reader.write(0, b"x"), Err(Refused::ReadOnly));
    assert_eq!((reader.len(), reader.is_writable()), (4096, false));
}

#[test]
fn an_emitted_event_signals_the_other_end_by_the_channels_slot() {
    static SIGNALLED: AtomicU32 = AtomicU32::new(0);
    let config =
        config::Channel { name: config::Name::new(), events: EVENTS, first: true, dataports: heapless::Vec::new() };
    let mut channel = Channel::new(
        3,
        &config,
        |_| page(),
        |slot| {
            SIGNALLED.fetch_add(slot.0.into(), Ordering::Relaxed);
        },
    );
    channel.emit();
    assert_eq!(SIGNALLED.load(Ordering::Relaxed), u32::from(slot::channel(3).0));
    assert!(channel.dataport(0).is_none() && channel.take() == 0);
}

proptest! {
    /// Whatever the other end writes into the page, a call ends, and the next one finds nothing new.
    #[test]
    fn any_counter_is_a_number_of_events(bytes in any::<[u8; 128]>(), first: bool) {
        let page = page();
        page.write(0, &bytes).unwrap();
        let mut events = Events::new(page, first);
        let pending = events.received().wrapping_sub(events.taken());
        prop_assert_eq!(events.take(), pending);
        prop_assert_eq!(events.take(), 0);
    }
}
