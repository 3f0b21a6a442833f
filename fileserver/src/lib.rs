//! fileserver: read-only images by name. The images were put in its address space before it started; a client gets
//! bytes of those it may open, copied into the buffer it shares with the server.
#![no_std]
#![forbid(unsafe_code)]

mod server;

pub use server::Server;
