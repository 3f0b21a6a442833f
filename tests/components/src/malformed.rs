//! Messages that no client of the project's would send: every server answers with an error, and lives on.

use layout::{Slot, slot};
use proto::supervisor::{self, Notice};
use proto::wire::{Call, IpcError, MAX_WORDS, Message, Transport};
use proto::{file, irq, pci, serial, timer};
use rt::Endpoint;
use sel4::{CPtr, MessageInfo, cap, ipc_buffer};

use crate::verdict::Verdict;

/// The servers, with the labels of their first and last call.
const SERVERS: [(&str, Slot, u64, u64); 5] = [
    ("serial-server", serial::SERVICE.slot, serial::Flush::LABEL, serial::GetStats::LABEL),
    ("timer-server", timer::SERVICE.slot, timer::Frequency::LABEL, timer::ReadWallClock::LABEL),
    ("irq-server", irq::SERVICE.slot, irq::Claim::LABEL, irq::SetMessage::LABEL),
    ("fileserver", file::SERVICE.slot, file::Open::LABEL, file::Read::LABEL),
    ("pci-server", pci::SERVICE.slot, pci::GetFunction::LABEL, pci::Mask::LABEL),
];
/// The kernel keeps 20 bits of a label.
const LARGEST_LABEL: u64 = (1 << 20) - 1;
/// Messages of random words to each server.
const RANDOM: u32 = 500;

/// All servers.
pub fn all(verdict: &mut Verdict) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (name, slot, first, last) in SERVERS {
        for label in [0, 1, first - 1, last + 1, supervisor::LABEL, LARGEST_LABEL] {
            let reply = exchange(slot, label, &[]);
            verdict.equal(name, reply, IpcError::UnknownLabel as u64);
        }
        for label in first..=last {
            wrong_lengths(verdict, name, slot, label);
        }
        for _ in 0..RANDOM {
            let label = first - 1 + random.next() % 8;
            random_message(verdict, name, slot, label, &mut random);
        }
        with_capabilities(verdict, name, slot, first);
        servers_answer(verdict);
    }
    // Random words may have armed a deadline.
    let _ = timer::Client(Endpoint::at(timer::SERVICE.slot)).cancel();
}

/// Each server does what it is there for.
pub fn servers_answer(verdict: &mut Verdict) {
    let serial = serial::Client(Endpoint::at(serial::SERVICE.slot));
    verdict.holds("serial-server answers", serial.stats().is_ok_and(|stats| stats.sent > 0));
    let timer = timer::Client(Endpoint::at(timer::SERVICE.slot));
    verdict.holds("timer-server answers", timer.frequency().is_ok_and(|hz| hz > 0));
    let irq = irq::Client(Endpoint::at(irq::SERVICE.slot));
    verdict.equal("irq-server answers", irq.claim(0), Err(irq::Error::NotOwner));
    let file = file::Client(Endpoint::at(file::SERVICE.slot));
    verdict.equal("fileserver answers", file.open("nothing"), Err(file::Error::NotFound));
    let pci = pci::Client(Endpoint::at(pci::SERVICE.slot));
    verdict.holds("pci-server answers", matches!(pci.function(0), Ok(Some(_)) | Err(pci::Error::NotAllowed)));
}

/// root-task's ear: it has no reply to give, and must neither stop nor switch the machine off.
pub fn notices(verdict: &mut Verdict) {
    let root_task = Endpoint::at(slot::SUPERVISOR);
    let mut message = Message::EMPTY;
    message.receive(supervisor::LABEL, MAX_WORDS).fill(u64::MAX);
    root_task.send(&message);
    let off = supervisor::Client(root_task).notify(Notice::PoweredOff);
    verdict.equal("a notice about a guest that is not there", off, Ok(()));
}

/// Sends words under a label; returns the label of the reply.
fn exchange(slot: Slot, label: u64, words: &[u64]) -> u64 {
    let mut message = Message::EMPTY;
    for (to, from) in message.receive(label, words.len()).iter_mut().zip(words) {
        *to = *from;
    }
    Endpoint::at(slot).exchange(&mut message);
    message.label
}

/// A known call with far too many words, and with words that are no value.
fn wrong_lengths(verdict: &mut Verdict, name: &str, slot: Slot, label: u64) {
    for words in [&[0; MAX_WORDS][..], &[u64::MAX; MAX_WORDS], &[u64::MAX; 30]] {
        verdict.equal(name, exchange(slot, label, words), IpcError::Malformed as u64);
    }
}

fn random_message(verdict: &mut Verdict, name: &str, slot: Slot, label: u64, random: &mut Random) {
    let len = random.next() as usize % (MAX_WORDS + 1);
    let mut words = [0; MAX_WORDS];
    words.fill_with(|| random.next());
    let reply = exchange(slot, label, &words[..len]);
    verdict.holds(name, reply <= IpcError::TooLong as u64);
}

/// Capabilities along with a message, three and one too few; among them the server's own endpoint, which the kernel
/// unwraps to a badge.
fn with_capabilities(verdict: &mut Verdict, name: &str, slot: Slot, first: u64) {
    for (count, attached) in [(3, slot), (1, slot::LOG), (1, slot), (2, Slot(200))] {
        for label in [first - 1, first] {
            for index in 0..count {
                ipc_buffer().set_cap(index, CPtr::from_bits(attached.cptr()));
            }
            ipc_buffer().set_word(0, u64::MAX);
            let info = MessageInfo::new(label, 0, count, 1);
            let reply = cap::Endpoint::from_bits(slot.cptr()).call(info);
            let refused = [IpcError::UnknownLabel as u64, IpcError::Malformed as u64].contains(&reply.label());
            verdict.holds(name, refused && reply.extra_caps() == 0);
        }
    }
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
