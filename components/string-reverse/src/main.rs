//! The process.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use channel::Channel;
use layout::config::Component;
use string_reverse::reverse;

rt::main!(main);

fn main(config: Component) -> ! {
    let Some(end) = config.channels.first() else {
        log::error!("it is an end of no channel: list `{}` in a [[channel]]", config.name);
        rt::finish()
    };
    let mut channel = Channel::new(0, end, rt::shared, rt::signal);
    let (Some(input), Some(output)) = (channel.dataport(0), channel.dataport(1).filter(|one| one.is_writable())) else {
        log::error!("`{}` has not two dataports, of which it may write the second", end.name);
        rt::finish()
    };
    loop {
        if channel.take() == 0 {
            rt::wait();
            continue;
        }
        reverse(&input, &output);
        channel.emit();
    }
}
