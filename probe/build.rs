//! Links the program.

fn main() {
    image_link::image();
}
