//! Links the binary as an image.

fn main() {
    image_link::image();
}
