//! The process. Its `args` are the VM's CID, the port that it pets at, and the seconds that it may take: "3 6 30".
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use guest_watchdog::Watchdog;
use layout::{config::Component, slot};
use proto::{
    lifecycle::{Answer, Verb, Vm},
    timer,
};
use rt::Endpoint;
use vsock::{Event, Id, Sockets};

rt::main!(main);

/// Connections at a time.
const MOST: usize = 4;
/// Bytes of a connection that wait.
const ROOM: usize = 256;

fn main(config: Component) -> ! {
    let Some((cid, port, seconds)) = parse(&config.args) else {
        log::error!("args = \"{}\" is not a CID, a port and seconds: write for example \"3 6 30\"", config.args);
        rt::finish()
    };
    let (Some(managed), Some(own)) = (config.managed.first(), config.vsock) else {
        log::error!("list `{0}` in the `managers` of a [[vm]], and in the [[vsock]] of that VM", config.name);
        rt::finish()
    };
    let time = timer::Client(Endpoint::at(timer::SERVICE.slot));
    let hertz = match time.frequency() {
        Ok(hertz) => hertz,
        Err(error) => {
            log::error!("no time ({error:?}): write services = [\"timer\"]");
            rt::finish()
        }
    };
    let mut sockets: Sockets<MOST, ROOM> =
        Sockets::new(own.cid, rt::records(own.output).producer(), rt::records(own.input).consumer());
    // Cannot fail: it is the only port.
    let _ = sockets.listen(port);
    let mut vm = Vm::new(rt::shared(managed.page));
    let mut dog = Watchdog::new(seconds.saturating_mul(hertz));
    let mut asked = false;
    log::info!("{} pets at port {port}, every {seconds} s", managed.name);
    loop {
        dog.follow(vm.state(), vm.starts(), rt::tsc());
        while let Some(event) = sockets.poll() {
            match event {
                Event::Opened(id) if sockets.peer(id).is_none_or(|peer| peer.cid != cid) => sockets.close(id),
                Event::Readable(id) => listen(&mut sockets, id, cid, &mut dog),
                Event::Closed(_) => {
                    dog.end();
                }
                Event::Opened(_) | Event::Writable(_) => {}
            }
        }
        if sockets.must_signal() {
            rt::signal(slot::VSOCK);
        }
        if dog.bites(rt::tsc()) {
            log::warn!("{} has not petted for {seconds} s, and is reset", managed.name);
            vm.ask(Verb::Reset);
            rt::signal(slot::managed(0));
            asked = true;
        }
        if asked && let Some(answer) = vm.answer() {
            asked = false;
            if answer != Answer::Done {
                log::error!("{} is not reset: {answer:?}", managed.name);
            }
        }
        if let Some(deadline) = dog.deadline() {
            // Without an alarm it is late: the next signal of any kind finds it.
            let _ = time.arm(deadline);
        }
        rt::wait();
    }
}

/// Takes what the guest has sent.
fn listen(sockets: &mut Sockets<MOST, ROOM>, id: Id, cid: u32, dog: &mut Watchdog) {
    if sockets.peer(id).is_none_or(|peer| peer.cid != cid) {
        return;
    }
    let mut bytes = [0; ROOM];
    loop {
        let len = sockets.read(id, &mut bytes);
        if len == 0 {
            break;
        }
        dog.pet(bytes.get(..len).unwrap_or_default(), rt::tsc());
    }
    if sockets.is_at_end(id) {
        if dog.end() {
            log::info!("the guest has said that it pets no more");
        }
        sockets.close(id);
    }
}

/// CID, port and seconds of the description.
fn parse(args: &str) -> Option<(u32, u32, u64)> {
    let mut words = args.split_whitespace();
    let parsed = (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (words.next().is_none() && parsed.2 > 0).then_some(parsed)
}
