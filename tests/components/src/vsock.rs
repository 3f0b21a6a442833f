//! A stream's bytes come back as they went: whoever connects by AF_VSOCK gets an echo.

use heapless::Vec;
use layout::{config::Component, slot};
use vsock::{Event, Id, Sockets};

/// Connections at a time.
const MOST: usize = 8;
/// Bytes that wait for being sent back.
const ROOM: usize = 8192;

/// Answers at `port` of AF_VSOCK, for ever.
pub fn echo(config: &Component, port: &str) -> ! {
    let (Some(own), Ok(port)) = (config.vsock, port.parse()) else { panic!("no socket, or no port: {port}") };
    let mut sockets: Sockets<MOST, ROOM> =
        Sockets::new(own.cid, rt::records(own.output).producer(), rt::records(own.input).consumer());
    if sockets.listen(port).is_err() {
        panic!("no place to listen");
    }
    let mut open: Vec<Id, MOST> = Vec::new();
    loop {
        while let Some(event) = sockets.poll() {
            match event {
                Event::Opened(id) => {
                    if let Some(peer) = sockets.peer(id) {
                        log::info!("CID {} has connected", peer.cid);
                    }
                    // Cannot fail: there are no more than the sockets have places for.
                    let _ = open.push(id);
                }
                Event::Readable(id) | Event::Writable(id) => send_back(&mut sockets, id),
                Event::Closed(id) => open.retain(|other| *other != id),
            }
        }
        if sockets.must_signal() {
            rt::signal(slot::VSOCK);
        }
        rt::wait();
    }
}

/// Sends back what has come, as far as there is room, and ends with the other side.
fn send_back(sockets: &mut Sockets<MOST, ROOM>, id: Id) {
    let mut bytes = [0; 1024];
    loop {
        let room = sockets.room(id).min(bytes.len());
        let len = sockets.read(id, &mut bytes[..room]);
        if len == 0 {
            break;
        }
        let sent = sockets.write(id, &bytes[..len]);
        debug_assert_eq!(sent, len);
    }
    if sockets.is_at_end(id) {
        sockets.close(id);
    }
}
