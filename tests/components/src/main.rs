//! A test client, and an example of a user's own component: a process beside the VMs, with the servers that its
//! description in tests/systems lists. The first of its `args` selects its part. It logs its results
//! as lines that build/src/tests/components.rs reads; the last one is the verdict.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod ahci;
mod bench;
mod blocks;
mod cspace;
mod dma;
mod fault;
mod files;
mod gate;
mod high;
mod ide;
mod irq;
mod lifecycle;
mod malformed;
mod messages;
mod pci;
mod serial;
mod timer;
mod verdict;
mod vsock;

use layout::config::Component;

use verdict::Verdict;

rt::main!(main);

fn main(config: Component) -> ! {
    let mut args = config.args.split_whitespace();
    match (args.next(), args.next()) {
        (Some("client"), None) => client(&config),
        (Some("outsider"), None) => outsider(&config),
        (Some("deadlines"), None) => deadlines(),
        (Some("witness"), None) => witness(),
        (Some("bench"), None) => bench::calls(),
        (Some("cspace"), None) => cspace::list(),
        (Some("phoenix"), None) => fault::phoenix(&config),
        (Some("fault"), Some(kind)) => fault::fault(kind),
        (Some("gate"), Some(part)) => gate::play(part, &config),
        (Some("disk"), Some(outside)) => disk(&config, outside, args.next() == Some("interrupts")),
        (Some("flood"), None) => flood(&config),
        (Some("echo"), Some(port)) => vsock::echo(&config, port),
        (Some("ide"), Some(writes)) => ide::drive(&config, writes),
        (Some("blocks"), Some(numbers)) => blocks(&config, numbers),
        (Some("manager"), Some(resets)) => lifecycle::manager(&config, resets),
        (Some("starter"), None) => lifecycle::starter(&config),
        (Some("limited"), None) => lifecycle::limited(&config),
        (Some("intruder"), None) => lifecycle::intruder(&config),
        (Some("canary"), None) => dma::canary(&config),
        (Some("card"), None) => card(),
        (Some("high"), None) => high(&config),
        _ => panic!("no such part: {}", config.args),
    }
    log::info!("has finished");
    rt::finish()
}

/// A client that may use all servers, and does.
fn client(config: &Component) {
    let mut verdict = Verdict::default();
    files::granted(&mut verdict, config);
    pci::granted(&mut verdict);
    irq::foreign(&mut verdict);
    timer::all(&mut verdict);
    serial::all(&mut verdict);
    malformed::all(&mut verdict);
    verdict.close();
}

/// A client of timer-server on a board whose TSC may have any rate.
fn deadlines() {
    let mut verdict = Verdict::default();
    timer::at_any_rate(&mut verdict);
    verdict.close();
}

/// A client that may use fewer servers, and tries the others.
fn outsider(config: &Component) {
    let mut verdict = Verdict::default();
    files::not_granted(&mut verdict, config);
    pci::not_granted(&mut verdict);
    // root-task logs its reaction to notices at once.
    verdict::flush();
    malformed::notices(&mut verdict);
    verdict.close();
}

/// Checks that all servers still respond after other processes have faulted.
fn witness() {
    let mut verdict = Verdict::default();
    malformed::servers_answer(&mut verdict);
    verdict.close();
}

/// The owner of a disk behind an IOMMU, which starts DMA to an address that is not its own, and raises interrupts by it if
/// told so.
fn disk(config: &Component, outside: &str, raise: bool) {
    let mut verdict = Verdict::default();
    let outside = outside.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    dma::owner(&mut verdict, config, outside.unwrap_or(0), raise);
    verdict.close();
}

/// The owner of a disk behind an IOMMU, which starts DMA to addresses that are not its own as often as it can.
fn flood(config: &Component) {
    let mut verdict = Verdict::default();
    dma::flood(&mut verdict, config);
    verdict.close();
}

/// A client of block-server.
fn blocks(config: &Component, numbers: &str) {
    let mut verdict = Verdict::default();
    blocks::all(&mut verdict, config, numbers);
    verdict.close();
}

/// The owner of a function whose memory is above 4 GiB, and that sends messages by a table.
fn high(config: &Component) {
    let mut verdict = Verdict::default();
    high::all(&mut verdict, config);
    verdict.close();
}

/// The owner of a network card that must not do DMA, neither for frames nor for interrupts.
fn card() {
    let mut verdict = Verdict::default();
    dma::confined(&mut verdict);
    let hidden = messages::hidden(&mut verdict, 1);
    verdict.equal("capabilities of message signalled interrupts", hidden, 2);
    verdict.close();
}
