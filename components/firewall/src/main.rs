//! The process. Its first network, in the description's order, is the inner one, its second the outer one, and its `args` are the
//! rules.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use ethernet::Port;
use firewall::{Firewall, Rules};
use layout::{
    config::{Component, Nic},
    slot,
};
use proto::net::Mac;

rt::main!(main);

fn main(config: Component) -> ! {
    let [inside, outside] = config.nics.as_slice() else {
        log::error!("it is between two networks: list `{}` in two [[network]]s, with bridge = true", config.name);
        rt::finish()
    };
    let rules = match Rules::parse(&config.args) {
        Ok(rules) => rules,
        Err(mistake) => {
            log::error!("args: {mistake}");
            rt::finish()
        }
    };
    let mut firewall = Firewall::new(port(inside), port(outside), rules);
    loop {
        while {
            let more = firewall.turn();
            for (number, must) in firewall.must_signal().into_iter().enumerate() {
                if must {
                    rt::signal(slot::nic(number));
                }
            }
            more
        } {}
        rt::wait();
    }
}

fn port(nic: &Nic) -> Port {
    Port::new(Mac(nic.mac), rt::records(nic.output).producer(), rt::records(nic.input).consumer())
}
