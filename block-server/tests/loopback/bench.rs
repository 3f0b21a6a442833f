//! Clients, a driver, and their ends of the rings.

use std::collections::VecDeque;

use block_server::Server;
use layout::{
    Slot,
    config::{self, BlockRings},
};
use mmio::{Mended, RecordConsumer, RecordProducer, RecordRing, Window};
use proto::{
    block::{Completion, Config, Disk, Export, Geometry, Operation, Part, RING_BYTES, Request, SECTOR, Source, Status},
    file,
    loopback::Loopback,
    wire::{ClientId, IpcError, Message},
};

/// Sectors of the disk.
pub const SECTORS: u64 = 400;
/// Partitions 1 to 3: first sector, sectors.
pub const PARTITIONS: [(u64, u64); 3] = [(10, 100), (110, 200), (390, 11)];

/// The disk and its driver.
pub struct Driver {
    pub bytes: Vec<u8>,
    pub requests: RecordConsumer,
    pub completions: RecordProducer,
    pub sectors: u64,
    /// Operations so far, except greetings.
    pub log: Vec<Operation>,
    /// All operations fail.
    pub fails: bool,
}

impl Driver {
    /// Another process takes over, with the same disk.
    pub fn begin_anew(&mut self, memory: &[Window]) {
        let ring = |n: usize| RecordRing::new(memory[n]).unwrap();
        (self.requests, self.completions) = (ring(0).consumer(), ring(1).producer());
    }

    pub fn serve(&mut self) {
        if self.requests.mend().max(self.completions.mend()) == Mended::Broken {
            return;
        }
        loop {
            let mut bytes = [0; Request::BYTES];
            let Some(record) = self.requests.peek().unwrap() else { break };
            record.read(0, &mut bytes).unwrap();
            let data = record.len() - bytes.len() as u32;
            let request = Request::of(&bytes, data).expect("the server sends requests");
            let mut written = vec![0; data as usize];
            record.read(bytes.len() as u32, &mut written).unwrap();
            record.release();
            let mut answer = Vec::new();
            match request.operation {
                Operation::Hello => answer.extend(Geometry { sectors: self.sectors, read_only: false }.bytes()),
                Operation::Read { sector, sectors } => answer.extend(&self.bytes[range(sector, sectors)]),
                Operation::Write { sector, sectors } if !self.fails => {
                    self.bytes[range(sector, sectors)].copy_from_slice(&written);
                }
                Operation::Write { .. } | Operation::Flush => {}
            }
            let fails = self.fails && request.operation != Operation::Hello;
            let status = if fails { Status::Failed } else { Status::Done };
            let mut record = self.completions.reserve(Completion::BYTES as u32 + answer.len() as u32).unwrap();
            record.write(&Completion { tag: request.tag, status }.bytes()).unwrap();
            if !fails {
                record.write(&answer).unwrap();
            }
            record.publish();
            if request.operation != Operation::Hello {
                self.log.push(request.operation);
            }
        }
    }
}

pub fn range(sector: u64, sectors: u32) -> std::ops::Range<usize> {
    let first = sector as usize * 512;
    first..first + sectors as usize * 512
}

/// A client's end.
pub struct Client {
    pub requests: RecordProducer,
    pub completions: RecordConsumer,
}

impl Client {
    pub fn send(&mut self, tag: u64, operation: Operation, data: &[u8]) -> bool {
        let bytes = Request { tag, operation }.bytes();
        let Ok(mut record) = self.requests.reserve((bytes.len() + data.len()) as u32) else { return false };
        record.write(&bytes).unwrap();
        record.write(data).unwrap();
        record.publish();
        true
    }

    pub fn receive(&mut self) -> Option<(u64, Status, Vec<u8>)> {
        let record = self.completions.peek().unwrap()?;
        let mut bytes = vec![0; record.len() as usize];
        record.read(0, &mut bytes).unwrap();
        record.release();
        let (head, data) = bytes.split_at(Completion::BYTES);
        let Completion { tag, status } = Completion::of(head.try_into().unwrap());
        Some((tag, status, data.to_vec()))
    }
}

/// The way to fileserver.
type Files = Loopback<Box<dyn FnMut(&mut Message) -> Result<(), IpcError>>>;

pub struct Bench {
    pub server: Server<Files>,
    pub driver: Driver,
    pub clients: Vec<Client>,
    pub signals: Vec<Slot>,
    pub memory: Vec<Window>,
}

/// Memory of so many bytes. Its number is its address.
fn add(memory: &mut Vec<Window>, bytes: Vec<u8>) -> config::Window {
    let len = bytes.len() as u64;
    memory.push(Window::leak(bytes.leak()));
    config::Window { at: memory.len() as u64 - 1, len }
}

fn rings(memory: &mut Vec<Window>) -> BlockRings {
    let mut ring = || add(memory, vec![0; RING_BYTES as usize]);
    BlockRings { requests: ring(), completions: ring() }
}

/// A disk without clients, and its rings.
fn one_disk() -> (Config, Vec<Window>) {
    let mut memory = Vec::new();
    let main = Disk { name: "main".try_into().unwrap(), rings: rings(&mut memory), signal: Slot(100) };
    (Config { disks: [main].into_iter().collect(), exports: heapless::Vec::new(), files: None }, memory)
}

impl Bench {
    /// A disk with these clients.
    pub fn new(parts: &[(Part, bool)]) -> Self {
        let (mut config, mut memory) = one_disk();
        for &(part, read_only) in parts {
            export(&mut config, &mut memory, Source::Disk(0), part, read_only);
        }
        Self::start(config, memory)
    }

    /// A client for each of these files, with a layer of so many bytes if it may write. All have the file `disk`.
    pub fn with_files(disk: &[u8], files: &[(&str, Option<usize>)]) -> Self {
        let (mut config, mut memory) = one_disk();
        let data = add(&mut memory, disk.to_vec());
        let buffer = add(&mut memory, vec![0; 8192]);
        config.files = Some(buffer);
        for &(name, layer) in files {
            let layer = layer.map(|len| add(&mut memory, vec![0; len]));
            let source = Source::File { name: name.try_into().unwrap(), layer };
            export(&mut config, &mut memory, source, Part::Whole, layer.is_none());
        }
        assert_eq!(data.at + 1, buffer.at, "fileserver finds them there");
        let mut bench = Self::start(config, memory);
        bench.settle();
        bench
    }

    fn start(config: Config, memory: Vec<Window>) -> Self {
        let ring = |window: config::Window| RecordRing::new(memory[window.at as usize]).unwrap();
        let mut bytes: Vec<u8> = (0..SECTORS * 512).map(|at| (at / 512 + at % 5) as u8).collect();
        bytes[..512].fill(0);
        for (n, (first, sectors)) in PARTITIONS.into_iter().enumerate() {
            let entry = 446 + 16 * n;
            bytes[entry + 4] = 0x83;
            bytes[entry + 8..entry + 12].copy_from_slice(&(first as u32).to_le_bytes());
            bytes[entry + 12..entry + 16].copy_from_slice(&(sectors as u32).to_le_bytes());
        }
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        let BlockRings { requests, completions } = config.disks[0].rings;
        let (requests, completions) = (ring(requests).consumer(), ring(completions).producer());
        let driver = Driver { bytes, requests, completions, sectors: SECTORS, log: vec![], fails: false };
        let ends = config.exports.iter().map(|export| export.rings);
        let clients = ends.map(|BlockRings { requests, completions }| Client {
            requests: ring(requests).producer(),
            completions: ring(completions).consumer(),
        });
        let (clients, server) = (clients.collect(), server(&config, &memory));
        Self { server, driver, clients, signals: vec![], memory }
    }

    /// One with the disk's table read.
    pub fn ready(parts: &[(Part, bool)]) -> Self {
        let mut bench = Self::new(parts);
        bench.settle();
        bench.driver.log.clear();
        bench
    }

    pub fn step(&mut self) {
        self.server.step(|slot| self.signals.push(slot));
    }

    /// Lets server and driver do all that there is.
    pub fn settle(&mut self) {
        for _ in 0..50 {
            self.step();
            self.driver.serve();
        }
        self.step();
    }

    /// Has an operation done; returns its end.
    pub fn ask(&mut self, client: usize, operation: Operation, data: &[u8]) -> (Status, Vec<u8>) {
        assert!(self.clients[client].send(7, operation, data));
        self.settle();
        let (tag, status, data) = self.clients[client].receive().expect("an end");
        assert_eq!((tag, self.clients[client].receive()), (7, None));
        (status, data)
    }

    /// Takes all completions that there are; whether each is one that is expected, which then is no longer.
    pub fn ends_are(&mut self, expected: &mut [VecDeque<(u64, Status, Vec<u8>)>; 2]) -> bool {
        self.clients.iter_mut().zip(expected).all(|(client, expected)| {
            std::iter::from_fn(|| client.receive()).all(|end| {
                let at = expected.iter().position(|(tag, ..)| *tag == end.0);
                at.and_then(|at| expected.remove(at)) == Some(end)
            })
        })
    }

    pub fn read(&mut self, client: usize, sector: u64, sectors: u32) -> (Status, Vec<u8>) {
        self.ask(client, Operation::Read { sector, sectors }, &[])
    }

    pub fn write(&mut self, client: usize, sector: u64, byte: u8, sectors: u32) -> Status {
        let data = vec![byte; (sectors * SECTOR) as usize];
        self.ask(client, Operation::Write { sector, sectors }, &data).0
    }
}

pub const FIRST: (Part, bool) = (Part::Partition(1), false);
pub const SECOND: (Part, bool) = (Part::Partition(2), false);

/// Adds a client.
fn export(config: &mut Config, memory: &mut Vec<Window>, source: Source, part: Part, read_only: bool) {
    let n = config.exports.len() as u16;
    let (client, signal) = (format!("vm{n}").as_str().try_into().unwrap(), Slot(n));
    let export = Export { client, source, part, read_only, rings: rings(memory), signal };
    config.exports.push(export).expect("few clients");
}

/// block-server, and fileserver with the file in front of the buffer.
fn server(config: &Config, memory: &[Window]) -> Server<Files> {
    let window = |window: config::Window| memory[window.at as usize];
    let mut files = file::Config { files: heapless::Vec::new(), clients: heapless::Vec::new() };
    if let Some(buffer) = config.files {
        let data = config::Window { at: buffer.at - 1, len: memory[buffer.at as usize - 1].len() };
        files.files.push(file::FileEntry { name: "disk".try_into().unwrap(), data }).unwrap();
        let client = file::FileClient { name: "block-server".try_into().unwrap(), buffer, may_open: 1 };
        files.clients.push(client).unwrap();
    }
    let mut files = fileserver::Server::new(&files, window);
    let files: Box<dyn FnMut(&mut Message) -> _> =
        Box::new(move |message| file::dispatch(&mut files, ClientId(0), message));
    Server::new(config, window, Loopback::new(files)).unwrap()
}
