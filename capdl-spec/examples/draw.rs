//! Draws a system description: `cargo run -p capdl-spec --example draw systems/minimal.toml > minimal.svg`.
use capdl_spec::host;

fn main() -> miette::Result<()> {
    let path = std::env::args_os().nth(1).unwrap_or_else(|| "systems/minimal.toml".into());
    let system = host::load(path.as_ref())?;
    print!("{}", host::draw::svg(&system, &host::plan(&system)?));
    Ok(())
}
