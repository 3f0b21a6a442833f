/* What hostile drivers of virtio devices share: one queue, and violations that any queue takes amiss. The device needs a
 * reset then, and works after it; the guest and its VMM go on. Registers and bits are those of virtio 1.2, sections
 * 4.1.4.3 (modern) and 4.1.4.10 (legacy). The driver names its QUEUE, the queue's SIZE, whether the device is to
 * WRITE the buffers of a request (KIND), and whether the device has the MODERN interface only; others are driven by the
 * legacy one. */
#include "pci.h"

enum { PORTS = 0xc000, MEMORY = 0xe0000000, END = 0x400000 };
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };
/* The ring in the legacy layout: descriptors, available ring, used ring on a page of its own. */
enum { RING = 0x200000, AVAILABLE = RING + 16 * SIZE, USED = (AVAILABLE + 6 + 2 * SIZE + 4095) & ~4095, BUFFER = 0x300000 };

static void describe(u32 n, u32 high, u32 low, u32 len, u32 flags, u32 next) {
	u32 at = RING + 16 * n;
	AT32(at) = low, AT32(at + 4) = high, AT32(at + 8) = len, AT32(at + 12) = flags | next << 16;
}

/* Checks that the device does what it is for. */
static void works(const char *after);

/* A reset: the device does not know of a driver. */
static void reset(void) {
	if (MODERN) AT8(MEMORY + 0x14) = 0;
	else out8(PORTS + 18, 0);
}

static u32 status(void) {
	return MODERN ? AT8(MEMORY + 0x14) : in8(PORTS + 18);
}

/* Why there was an interrupt; there is none any more. */
static u32 reasons(void) {
	return MODERN ? AT8(MEMORY + 0x1000) : in8(PORTS + 19);
}

/* The queue, by the modern interface. */
static void enable(u16 size) {
	AT16(MEMORY + 0x16) = QUEUE;
	AT16(MEMORY + 0x18) = size;
	AT32(MEMORY + 0x20) = RING, AT32(MEMORY + 0x28) = AVAILABLE, AT32(MEMORY + 0x30) = USED;
	AT16(MEMORY + 0x1c) = 1;
}

/* A reset, and a queue with one request for 64 bytes. */
static void set_up(void) {
	reset();
	for (u32 at = RING; at < USED + 0x1000; at += 4) AT32(at) = 0;
	if (MODERN) {
		AT8(MEMORY + 0x14) = 3;
		AT32(MEMORY + 8) = 1, AT32(MEMORY + 12) = 1;
		AT8(MEMORY + 0x14) = 11;
		enable(SIZE);
		AT8(MEMORY + 0x14) = 15;
	} else {
		out8(PORTS + 18, 3);
		out16(PORTS + 14, QUEUE);
		out32(PORTS + 8, RING / 4096);
		out8(PORTS + 18, 7);
	}
	describe(0, 0, BUFFER, 64, KIND, 0);
	AT16(AVAILABLE + 2) = 1;
}

static void kick(void) {
	if (MODERN) AT16(MEMORY + 0x3000 + 4 * QUEUE) = QUEUE;
	else out16(PORTS + 16, QUEUE);
}

/* The queue as it was made since `set_up` is one that needs a reset. */
static void broken(const char *what) {
	kick();
	expect(what, status() & 0x47, 0x47);
	expect("an interrupt", reasons() & 2, 2);
	kick();
	expect("nothing is used", AT16(USED + 2), 0);
	works(what);
	set_up();
}

static void queues(void) {
	set_up();
	AT16(AVAILABLE + 2) = SIZE + 1, broken("an index that jumps");
	AT16(AVAILABLE + 2) = 0xffff, broken("an index before the last");
	AT16(AVAILABLE + 4) = SIZE, broken("a head outside");
	describe(0, 0, BUFFER, 1, KIND | NEXT, SIZE), broken("a successor outside");
	describe(0, 0, BUFFER, 1, KIND | NEXT, 0), broken("a loop");
	describe(0, 0, BUFFER, 0xffffffff, KIND, 0), broken("4 GiB");
	describe(0, 0, END - 1, 2, KIND, 0), broken("over the end of RAM");
	describe(0, 0, 0xfee00000, 64, KIND, 0), broken("the local APIC");
	describe(0, 0, MEMORY, 64, KIND, 0), broken("the device itself");
	describe(0, 0xffffffff, 0xfffffff0, 64, KIND, 0), broken("around the address space");
	describe(0, 0, BUFFER, 64, KIND ^ WRITE, 0), broken("a buffer of the other direction");
	describe(0, 0, BUFFER, 16, INDIRECT, 0), broken("an indirect table, not negotiated");
}

/* Rings that are not there, by either interface. */
static void rings(void) {
	static const u32 pages[] = {END / 4096, END / 4096 - 1, 0xfee00, 0xfffff, 0xffffffff};
	for (u32 i = 0; !MODERN && i < sizeof pages / 4; i++) {
		reset();
		out32(PORTS + 8, pages[i]);
		expect("a ring outside", status(), 0x40);
		works("a ring outside");
	}
	static const u16 sizes[] = {0, 3, 2 * SIZE, 32768, 65535};
	for (u32 i = 0; i < sizeof sizes / 2; i++) {
		AT8(MEMORY + 0x14) = 0;
		enable(sizes[i]);
		expect("a size", AT8(MEMORY + 0x14), 0x40);
		works("a size");
	}
}

/* Every register and some beyond, at every width: nothing to expect but that all goes on. */
static void registers(void) {
	static const u32 values[] = {0, 1, 0x55aa55aa, 0xffffffff};
	for (u32 i = 0; i < sizeof values / 4; i++) {
		u32 value = values[i];
		for (u32 at = 0; !MODERN && at < 0x24; at++) {
			in8(PORTS + at), in16(PORTS + at), in32(PORTS + at);
			out8(PORTS + at, value), out16(PORTS + at, value), out32(PORTS + at, value);
		}
		/* The first of each part of the modern interface. */
		for (u32 at = MEMORY; at < MEMORY + 0x4000; at = (at & 0xfff) < 0x3f ? at + 1 : (at | 0xfff) + 1) {
			(void)AT8(at), (void)AT16(at), (void)AT32(at);
			AT8(at) = value, AT16(at) = value, AT32(at) = value;
		}
	}
	works("registers at every width");
}

/* Places the device, with this identification, and does all of that. */
static void attack(u32 identification) {
	expect("the device", config(0), identification);
	configure(0x10, PORTS);
	configure(0x20, MEMORY);
	configure(0x04, 7);
	works("nothing yet");
	queues();
	rings();
	registers();
}
