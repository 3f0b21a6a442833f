/* A hostile driver of a network device: queues that are none, frames that are none, addresses that are not its own. Facts:
 * `frames`, how many it sent from addresses of others. */
enum { QUEUE = 1, SIZE = 256, KIND = 0, MODERN = 0 };
#include "virtio.h"

enum { HEADER = 10, SHORTEST = 14, SOURCES = 65536, GROUP_FRAMES = 3000, ANSWER = BUFFER + 0x1000 };

static u8 own[6];
static u16 sent;

/* The next request: this buffer. */
static void offer(u32 buffer, u32 length) {
	describe(0, 0, buffer, length, 0, 0);
	AT16(AVAILABLE + 4 + 2 * (sent % SIZE)) = 0;
	AT16(AVAILABLE + 2) = ++sent;
	kick();
}

/* A frame to `to`, whose last 4 bytes are the given ones, from the device's address with the last 2 bytes changed. */
static void frame(u32 to, u16 changed) {
	for (u32 i = 0; i < HEADER; i++) AT8(BUFFER + i) = 0;
	AT16(BUFFER + HEADER) = (u16)(to ? 0x0002 : 0xffff);
	AT32(BUFFER + HEADER + 2) = to ? to : 0xffffffff;
	for (u32 i = 0; i < 6; i++) AT8(BUFFER + HEADER + 6 + i) = own[i];
	AT8(BUFFER + HEADER + 10) ^= changed >> 8, AT8(BUFFER + HEADER + 11) ^= changed;
	AT16(BUFFER + HEADER + 12) = 0xb588;
}

static void works(const char *after) {
	set_up();
	sent = 0;
	frame(0x12345678, 0);
	offer(BUFFER, HEADER + 60);
	expect(after, AT16(USED + 2), 1);
}

/* Frames that are none are dropped, and the queue goes on. */
static void frames(void) {
	works("before frames");
	for (u32 length = 0; length < HEADER; length++) {
		sent = 0, set_up();
		describe(0, 0, BUFFER, length, 0, 0), broken("less than a header");
	}
	works("headers");
	for (u32 length = HEADER; length < HEADER + SHORTEST; length++) offer(BUFFER, length);
	offer(BUFFER, 65551 + HEADER);
	offer(BUFFER, 0x80000);
	for (u32 kind = 0; kind < 256; kind++) {
		frame(0, 0);
		AT8(BUFFER) = (u8)(kind * 7), AT8(BUFFER + 1) = (u8)kind;
		AT32(BUFFER + 2) = kind * 0x01010101, AT32(BUFFER + 6) = ~kind;
		offer(BUFFER, HEADER + 60);
	}
	expect("all are used", AT16(USED + 2), sent);
	expect("status", status(), 7);
}

/* Every source that it does not have, a frame each; then more frames to all than it may send. */
static void others(void) {
	works("before others");
	u32 count = 0;
	for (u32 changed = 1; changed < SOURCES; changed++, count++) {
		frame(0, (u16)changed);
		offer(BUFFER, HEADER + 60);
	}
	for (u32 i = 0; i < GROUP_FRAMES; i++) {
		frame(0, 0);
		offer(BUFFER, HEADER + 60);
	}
	expect("all are used", AT16(USED + 2), sent);
	FACT("frames", count);
}

static void guest(void) {
	config(0);
	configure(0x10, PORTS);
	configure(0x04, 7);
	for (u32 i = 0; i < 6; i++) own[i] = in8(PORTS + 20 + i);
	attack(0x10001af4);
	frames();
	others();
}
