//! The process.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use channel::Channel;
use layout::config::Component;
use print_server::Text;

rt::main!(main);

fn main(config: Component) -> ! {
    let Some(end) = config.channels.first() else {
        log::error!("it is an end of no channel: list `{}` in a [[channel]]", config.name);
        rt::finish()
    };
    let mut channel = Channel::new(0, end, rt::shared, rt::signal);
    let Some(dataport) = channel.dataport(0) else {
        log::error!("`{}` has no dataport", end.name);
        rt::finish()
    };
    loop {
        if channel.take() == 0 {
            rt::wait();
            continue;
        }
        for line in Text::read(&dataport).lines() {
            log::info!("{line}");
        }
        channel.emit();
    }
}
