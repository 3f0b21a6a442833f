//! A guest's disk as the virtio device has it, over rings whose other end is the test.

use devices::virtio::{
    Broken,
    block::{Backend, Finished, Operation, Started},
};
use mmio::{RecordConsumer, RecordProducer, RecordRing, Reservation, Window};
use proto::block::{self, Completion, Geometry, MOST, RING_BYTES, Request, Status};
use vmm_server::disk::Disk;

/// block-server's end.
struct Server {
    requests: RecordConsumer,
    completions: RecordProducer,
}

impl Server {
    fn take(&mut self) -> Option<(Request, Vec<u8>)> {
        let record = self.requests.peek().unwrap()?;
        let (mut head, mut data) = ([0; Request::BYTES], vec![0; record.len() as usize - Request::BYTES]);
        record.read(0, &mut head).unwrap();
        record.read(Request::BYTES as u32, &mut data).unwrap();
        record.release();
        Some((Request::of(&head, data.len() as u32).expect("a request"), data))
    }

    fn end(&mut self, tag: u64, status: Status, data: &[u8]) {
        let mut record = self.completions.reserve((Completion::BYTES + data.len()) as u32).unwrap();
        record.write(&Completion { tag, status }.bytes()).unwrap();
        record.write(data).unwrap();
        record.publish();
    }
}

/// Two ends: the rings' memory is like that of a process that begins again.
fn ends(memory: [Window; 2]) -> (Disk, Server) {
    let [requests, completions] = memory;
    let ring = |window| RecordRing::new(window).unwrap();
    let server = Server { requests: ring(requests).consumer(), completions: ring(completions).producer() };
    (Disk::new(requests, completions).unwrap(), server)
}

fn memory() -> [Window; 2] {
    [(); 2].map(|()| Window::leak(vec![0; RING_BYTES as usize].leak()))
}

/// Appends so many bytes as there is room for, the `n`th of them 3 `n`.
fn data(record: &mut Reservation<'_>) -> Result<u32, Broken> {
    let bytes: Vec<u8> = (0..record.left()).map(|n| (3 * n) as u8).collect();
    record.write(&bytes).unwrap();
    Ok(bytes.len() as u32)
}

const READ: Operation = Operation::Read { sector: 7, sectors: 2 };

#[test]
fn what_comes_before_the_greeting_s_answer_is_a_predecessor_s() {
    let memory = memory();
    let (mut disk, mut server) = ends(memory);
    // A predecessor has sent a request, and its greeting's number is an old one.
    disk.begin(1, READ, data).unwrap();
    assert!(disk.greet(5));
    let (mut disk, _) = ends(memory);
    assert!(disk.greet(6));
    let (request, _) = server.take().unwrap();
    server.end(request.tag, Status::Done, &[1; 1024]);
    assert_eq!(disk.is_greeted(6), None);
    for sectors in [100, 200] {
        let (request, _) = server.take().unwrap();
        assert_eq!(request.operation, block::Operation::Hello);
        assert_eq!(disk.is_greeted(6), None);
        server.end(request.tag, Status::Done, &Geometry { sectors, read_only: true }.bytes());
    }
    assert_eq!(disk.is_greeted(6), Some(true));
    assert_eq!((disk.disk().sectors, disk.disk().read_only), (200, true));
    assert_eq!(disk.finished(), None);
}

#[test]
fn a_greeting_without_a_good_answer_finds_no_disk() {
    let hello = |status, data: &[u8]| {
        let (mut disk, mut server) = ends(memory());
        assert!(disk.greet(9));
        let tag = server.take().unwrap().0.tag;
        server.end(tag, status, data);
        disk.is_greeted(9)
    };
    assert_eq!(hello(Status::Failed, &[]), Some(false));
    assert_eq!(hello(Status::Done, &[0; 15]), Some(false));
    assert_eq!(hello(Status::Done, &[0; 16]), Some(true));
}

#[test]
fn requests_go_out_with_their_data() {
    let (mut disk, mut server) = ends(memory());
    assert!(!disk.has_output());
    assert_eq!(disk.begin(1, Operation::Write { sector: 1 << 40, sectors: 20 }, data), Ok(Started::Yes));
    assert_eq!(disk.begin(2, READ, data), Ok(Started::Yes));
    assert_eq!(disk.begin(u32::MAX, Operation::Flush, data), Ok(Started::Yes));
    assert!(disk.has_output() && disk.must_signal() && !disk.has_output());
    let (request, data) = server.take().unwrap();
    assert_eq!(request, Request { tag: 1, operation: block::Operation::Write { sector: 1 << 40, sectors: 20 } });
    assert!(data.len() == 20 * 512 && data.iter().enumerate().all(|(n, &byte)| byte == (3 * n) as u8));
    let operation = block::Operation::Read { sector: 7, sectors: 2 };
    assert_eq!(server.take(), Some((Request { tag: 2, operation }, vec![])));
    let flush = Request { tag: u32::MAX.into(), operation: block::Operation::Flush };
    assert_eq!((server.take(), server.take()), (Some((flush, vec![])), None));
}

#[test]
fn a_request_whose_data_cannot_be_fetched_is_none() {
    let (mut disk, mut server) = ends(memory());
    let write = Operation::Write { sector: 0, sectors: 128 };
    assert_eq!(disk.begin(1, write, |_| Err(Broken::Request)), Err(Broken::Request));
    assert_eq!(disk.begin(1, write, |record| data(record).map(|len| len - 1)), Err(Broken::Request));
    assert_eq!(server.take(), None);
    assert_eq!(disk.begin(2, Operation::Flush, data), Ok(Started::Yes));
    assert_eq!(server.take().map(|(request, _)| request.tag), Some(2));
}

#[test]
fn a_full_ring_is_busy_until_block_server_has_room() {
    let (mut disk, mut server) = ends(memory());
    let write = Operation::Write { sector: 0, sectors: MOST };
    let sent = (0..).take_while(|&tag| disk.begin(tag, write, data) == Ok(Started::Yes)).count();
    assert!((3..5).contains(&sent), "{sent}");
    assert_eq!(disk.begin(9, write, |_| panic!("it is busy")), Ok(Started::Busy));
    server.requests.must_signal();
    server.take().unwrap();
    assert!(server.requests.must_signal(), "the device waits for room");
    assert_eq!(disk.begin(9, write, data), Ok(Started::Yes));
}

#[test]
fn ends_come_with_their_data_until_they_are_released() {
    let (mut disk, mut server) = ends(memory());
    assert_eq!(disk.finished(), None);
    server.end(3, Status::Done, &[0x5a; 1024]);
    server.end(4, Status::Failed, &[]);
    server.end(5, Status::Refused, &[]);
    // No request of this process has such a tag.
    server.end(1 << 32, Status::Done, &[]);
    server.end(6, Status::Done, &[]);
    for _ in 0..2 {
        assert_eq!(disk.finished(), Some(Finished { tag: 3, ok: true, len: 1024 }));
    }
    let (record, at) = disk.data().expect("data");
    let mut bytes = [0; 1024];
    record.read(at, &mut bytes).unwrap();
    assert_eq!((record.len() - at, bytes), (1024, [0x5a; 1024]));
    for (tag, ok) in [(4, false), (5, false), (6, true)] {
        disk.release();
        assert_eq!(disk.finished(), Some(Finished { tag, ok, len: 0 }));
    }
    disk.release();
    assert_eq!(disk.finished(), None);
    assert!(disk.has_output());
}

#[test]
fn a_broken_ring_has_no_ends_and_takes_nothing() {
    let memory = memory();
    let (mut disk, _server) = ends(memory);
    memory[1].write_u32(0, 3).unwrap();
    assert_eq!(disk.finished(), None);
    assert_eq!(disk.is_greeted(1), None, "block-server may begin anew");
    memory[0].write_u32(64, 0x8000_0000).unwrap();
    assert_eq!(disk.begin(1, READ, data), Ok(Started::Busy));
    assert!(!disk.greet(1));
}
