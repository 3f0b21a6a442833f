//! Both ends of a port's rings.

use ethernet::{Full, LONGEST, Port};
use mmio::{RecordConsumer, RecordProducer, RecordRing, Window};
use proto::net::{HEADER, Mac};

struct Bench {
    port: Port,
    to: RecordProducer,
    from: RecordConsumer,
    /// The ring to the port.
    window: Window,
}

fn bench() -> Bench {
    let windows = [(); 2].map(|()| Window::leak(vec![0; 128 + (1 << 17)].leak()));
    let [to, from] = windows.map(|window| RecordRing::new(window).unwrap());
    let port = Port::new(Mac([2, 0, 0, 0, 0, 9]), from.producer(), to.consumer());
    Bench { port, to: to.producer(), from: from.consumer(), window: windows[0] }
}

impl Bench {
    fn put(&mut self, header: [u8; HEADER], frame: &[u8]) {
        let mut record = self.to.reserve((HEADER + frame.len()) as u32).unwrap();
        record.write(&header).unwrap();
        record.write(frame).unwrap();
        record.publish();
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut frame = [0; LONGEST];
        loop {
            match self.port.receive(&mut frame) {
                Some(0) => {}
                len => return len.map(|len| frame[..len].to_vec()),
            }
        }
    }
}

const NONE: [u8; HEADER] = [0; HEADER];

/// A segment of TCP in IPv4 with 10,000 bytes of data, which its sender left to be split.
fn segment() -> ([u8; HEADER], Vec<u8>) {
    let mut frame = vec![0; 54 + 10_000];
    (frame[12], frame[14], frame[23], frame[46]) = (8, 0x45, 6, 0x50);
    ([1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0], frame)
}

#[test]
fn frames_come_as_they_are_on_a_wire() {
    let mut bench = bench();
    bench.put(NONE, &[1; 60]);
    let (header, frame) = segment();
    bench.put(header, &frame);
    bench.put(NONE, &[2; 1514]);
    assert_eq!(bench.receive(), Some(vec![1; 60]));
    let lengths: Vec<usize> = (0..7).map(|_| bench.receive().unwrap().len()).collect();
    assert_eq!(lengths, [1514, 1514, 1514, 1514, 1514, 1514, 54 + 10_000 - 6 * 1460]);
    assert_eq!(bench.receive(), Some(vec![2; 1514]));
    assert_eq!(bench.receive(), None);
}

#[test]
fn what_is_no_frame_is_left_out() {
    let mut bench = bench();
    bench.put(NONE, &[0; 13]);
    bench.put([1, 9, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0], &[0; 60]);
    bench.put(NONE, &[0; 1519]);
    bench.put(NONE, &[5; 60]);
    assert_eq!(bench.receive(), Some(vec![5; 60]));
    // But not for ever at a time.
    for _ in 0..100 {
        bench.put(NONE, &[0; 1519]);
        bench.put([0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0; 60]);
        let _ = bench.receive();
    }
    bench.put(NONE, &[6; 60]);
    assert_eq!(bench.receive(), Some(vec![6; 60]));
}

#[test]
fn many_that_are_none_do_not_end_the_signals() {
    for count in [63, 64, 65, 128, 200] {
        let mut bench = bench();
        assert_eq!(bench.receive(), None);
        bench.to.must_signal();
        for _ in 0..count {
            bench.put(NONE, &[0; 13]);
        }
        assert!(bench.to.must_signal());
        assert_eq!(bench.receive(), None);
        bench.put(NONE, &[5; 60]);
        assert!(bench.to.must_signal(), "{count}");
        assert_eq!(bench.receive(), Some(vec![5; 60]));
    }
}

#[test]
fn frames_go_with_nothing_left_to_be_computed() {
    let mut bench = bench();
    bench.port.send(&[3; 100]).unwrap();
    let record = bench.from.peek().unwrap().unwrap();
    let mut got = [0; 112];
    assert_eq!(record.len(), 112);
    record.read(0, &mut got).unwrap();
    assert_eq!(got[..], [&NONE[..], &[3; 100]].concat());
    assert!(bench.port.must_signal() && !bench.port.must_signal());
}

#[test]
fn a_full_ring_loses_the_frame_and_no_other() {
    let mut bench = bench();
    let sent = (0..).take_while(|_| bench.port.send(&[7; 1514]) == Ok(())).count();
    assert_eq!(sent, (1 << 17) / 1536);
    bench.from.peek().unwrap().unwrap().release();
    assert_eq!([bench.port.send(&[7; 1514]), bench.port.send(&[7; 1514])], [Ok(()), Err(Full)]);
    assert_eq!(bench.port.send(&vec![0; 1 << 17]), Err(Full), "never");
}

#[test]
fn a_broken_ring_gives_nothing() {
    let mut bench = bench();
    bench.put(NONE, &[1; 60]);
    bench.window.write_u32(0, 4).unwrap();
    assert_eq!([bench.receive(), bench.receive()], [None, None]);
}
