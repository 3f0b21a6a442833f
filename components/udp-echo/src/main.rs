//! The process. Its `args` are an address with the length of its network's prefix, and a port: "10.0.0.9/24 7".
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use ethernet::Port;
use layout::{config::Component, slot};
use proto::{net::Mac, timer};
use rt::Endpoint;
use smoltcp::{time::Instant, wire::Ipv4Cidr};
use udp_echo::{Echo, Room};

rt::main!(main);

fn main(config: Component) -> ! {
    let Some((address, udp)) = parse(&config.args) else {
        log::error!("args = \"{}\" is not an address and a port: write for example \"10.0.0.9/24 7\"", config.args);
        rt::finish()
    };
    let Some(nic) = config.nics.first() else {
        log::error!("it is a member of no network: list `{}` in a [[network]]", config.name);
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
    let port = Port::new(Mac(nic.mac), rt::records(nic.output).producer(), rt::records(nic.input).consumer());
    let now = || Instant::from_micros((u128::from(rt::tsc()) * 1_000_000 / u128::from(hertz)) as i64);
    let mut room = Room::default();
    let mut echo = Echo::new(port, address, udp, &mut room, now());
    log::info!("{address}, port {udp}, {}", Mac(nic.mac));
    loop {
        while {
            let more = echo.turn(now());
            if echo.must_signal() {
                rt::signal(slot::nic(0));
            }
            more
        } {}
        if let Some(delay) = echo.deadline(now()) {
            let ticks = u128::from(delay.total_micros()) * u128::from(hertz) / 1_000_000;
            // Without an alarm it is late, not lost: the next frame is a turn too.
            let _ = time.arm(rt::tsc() + ticks as u64);
        }
        rt::wait();
    }
}

/// Address and port of the description.
fn parse(args: &str) -> Option<(Ipv4Cidr, u16)> {
    let (address, port) = args.trim().split_once(' ')?;
    Some((address.parse().ok()?, port.trim().parse().ok().filter(|port| *port != 0)?))
}
