/* A hostile driver of a console device: queues that are none, and messages that are none or contradict each other. Facts:
 * `messages`, how many of those. */
enum { QUEUE = 1, SIZE = 32, KIND = 0, MODERN = 0 };
#include "virtio.h"

enum { MULTIPORT = 2, ORDERS = 3, MESSAGE = 8, TEXT = 11 };

static u16 sent;

/* The next request of a queue: this many bytes. */
static void offer(u16 queue, u32 length) {
	describe(0, 0, BUFFER, length, 0, 0);
	AT16(AVAILABLE + 4 + 2 * (sent % SIZE)) = 0;
	AT16(AVAILABLE + 2) = ++sent;
	out16(PORTS + 16, queue);
}

/* A line on the terminal, by a driver that knows of no messages. */
static void works(const char *after) {
	static const char text[] = "still here\n";
	set_up();
	sent = 0;
	for (u32 i = 0; i < TEXT; i++) AT8(BUFFER + i) = text[i];
	offer(QUEUE, TEXT);
	expect(after, AT16(USED + 2), 1);
}

/* The queue for the driver's messages, in the place of the other one. */
static void take_orders(void) {
	reset();
	out8(PORTS + 18, 3);
	out32(PORTS + 4, MULTIPORT);
	for (u32 at = RING; at < USED + 0x1000; at += 4) AT32(at) = 0;
	out16(PORTS + 14, ORDERS);
	out32(PORTS + 8, RING / 4096);
	out8(PORTS + 18, 7);
	sent = 0;
}

static void order(u32 port, u32 event, u32 value, u32 length) {
	AT32(BUFFER) = port, AT32(BUFFER + 4) = (event & 0xffff) | value << 16;
	offer(ORDERS, length);
}

static void messages(void) {
	static const u32 ports[] = {0, 1, 2, 4, 5, 31, 0x80000000, 0xffffffff}, values[] = {0, 1, 0xffff};
	u32 count = 0;
	take_orders();
	for (u32 length = 0; length <= 3 * MESSAGE; length++, count++) order(0xffffffff, 0, 1, length);
	order(1, 3, 1, 0x80000), count++;
	for (u32 round = 0; round < 2; round++)
		for (u32 event = 0; event < 10; event++)
			for (u32 i = 0; i < sizeof ports / 4; i++)
				for (u32 j = 0; j < sizeof values / 4; j++, count++)
					order(ports[i], event == 9 ? 0xffff : event, values[j], MESSAGE);
	expect("all are used", AT16(USED + 2), sent);
	expect("status", status(), 7);
	FACT("messages", count);
	describe(0, 0, BUFFER, MESSAGE, WRITE, 0);
	AT16(AVAILABLE + 2) = ++sent;
	out16(PORTS + 16, ORDERS);
	expect("a message to be written", status(), 0x47);
	works("messages");
	/* Without the feature, there is no such queue. */
	set_up();
	out16(PORTS + 14, ORDERS);
	out32(PORTS + 8, RING / 4096);
	out16(PORTS + 16, ORDERS);
	expect("no message", AT16(USED + 2), 0);
	works("no messages");
}

/* The configuration's columns, rows and number of ports, of which none can be written. */
static void size(void) {
	out32(PORTS + 20, 0xffffffff), out32(PORTS + 24, 0xffffffff);
	expect("columns and rows", in32(PORTS + 20), 0);
	expect("ports", in32(PORTS + 24), 2);
	expect("nothing to read", in32(PORTS + 28), 0);
}

static void guest(void) {
	attack(0x10031af4);
	messages();
	size();
}
