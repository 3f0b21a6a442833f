//! fileserver: read-only images by name. root-task maps the images in its address space before it starts; the server
//! copies bytes of the images that a client may open into the buffer that it shares with the client.
#![no_std]
#![forbid(unsafe_code)]

mod server;

pub use server::Server;
