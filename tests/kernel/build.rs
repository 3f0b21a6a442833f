//! Links the image.

fn main() {
    image_link::root_task();
}
