/* A hostile driver of the entropy device (rng = true). */
enum { QUEUE = 0, SIZE = 8, KIND = 2, MODERN = 0 };
#include "virtio.h"

/* IRR of the second PIC: the device's input is 11. */
static u32 interrupts(void) {
	out8(0xa0, 0x0a);
	return in8(0xa0) >> 3 & 1;
}

static void works(const char *after) {
	set_up();
	kick();
	expect(after, AT16(USED + 2) << 16 | AT8(USED + 8), 1 << 16 | 64);
	expect("its interrupt", interrupts(), 1);
	expect("its status", reasons(), 1);
	expect("no interrupt any more", interrupts(), 0);
}

static void guest(void) {
	attack(0x10051af4);
}
