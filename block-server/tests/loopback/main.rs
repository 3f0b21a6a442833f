//! Clients, the server, drivers and fileserver, by real rings in this process's memory.

mod bench;
mod ends;
mod files;
mod parts;
mod properties;
mod turns;
