/* A hostile driver of a socket device: queues that are none, packets that are none, addresses that are not its own, and
 * connections without end, whose refusals it never takes. */
enum { QUEUE = 1, SIZE = 128, KIND = 0, MODERN = 1 };
#include "virtio.h"

enum { HEADER = 44, STREAM = 1, REQUEST = 1, RESET = 3, DATA_PACKET = 5, CONNECTIONS = 4000, OTHER_CID = 4 };

static u32 own;
static u16 sent;

/* A packet to the other member, without data. */
static void packet(u32 from, u32 to, u32 port, u32 kind, u32 operation) {
	for (u32 i = 0; i < HEADER; i++) AT8(BUFFER + i) = 0;
	AT32(BUFFER) = from, AT32(BUFFER + 8) = to;
	AT32(BUFFER + 16) = port, AT32(BUFFER + 20) = 7;
	AT16(BUFFER + 28) = (u16)kind, AT16(BUFFER + 30) = (u16)operation;
	AT32(BUFFER + 36) = 0x40000;
}

/* The next request: the buffer's first bytes. */
static void offer(u32 length) {
	describe(0, 0, BUFFER, length, 0, 0);
	AT16(AVAILABLE + 4 + 2 * (sent % SIZE)) = 0;
	AT16(AVAILABLE + 2) = ++sent;
	kick();
}

static void works(const char *after) {
	set_up();
	sent = 0;
	packet(own, OTHER_CID, 1, STREAM, RESET);
	offer(HEADER);
	expect(after, AT16(USED + 2), 1);
}

/* What has no header, or less behind it than the header says, breaks the queue. */
static void lengths(void) {
	works("before lengths");
	set_up();
	for (u32 length = 0; length < HEADER; length++) {
		packet(own, OTHER_CID, 1, STREAM, RESET);
		describe(0, 0, BUFFER, length, 0, 0), broken("less than a header");
	}
	static const u32 lengths[] = {1, 65536, 65537, 0x7fffffff, 0xffffffd4, 0xffffffff};
	for (u32 i = 0; i < sizeof lengths / 4; i++) {
		packet(own, OTHER_CID, 1, STREAM, DATA_PACKET);
		AT32(BUFFER + 24) = lengths[i];
		describe(0, 0, BUFFER, HEADER, 0, 0), broken("more than there is");
	}
}

/* Every kind of packet, from every sort of address, to every sort: none of a connection that exists. */
static void headers(void) {
	static const u32 addresses[] = {0, 1, 2, 3, 4, 5, 0x7fffffff, 0xffffffff};
	enum { ADDRESSES = sizeof addresses / 4 };
	for (u32 i = 0; i < ADDRESSES; i++) {
		for (u32 j = 0; j < ADDRESSES; j++) {
			works("headers");
			for (u32 operation = 0; operation < 10; operation++) {
				for (u32 kind = 0; kind < 3; kind++) packet(addresses[i], addresses[j], operation, kind, operation), offer(HEADER);
			}
			expect("all are used", AT16(USED + 2), sent);
		}
	}
	works("headers");
}

/* More connections than it may open, to a member that does not answer. */
static void connections(void) {
	works("before connections");
	for (u32 port = 0; port < CONNECTIONS; port++) {
		packet(own, OTHER_CID, port, STREAM, REQUEST);
		offer(HEADER);
	}
	works("after connections");
}

static void guest(void) {
	config(0);
	configure(0x20, MEMORY);
	configure(0x04, 7);
	own = AT32(MEMORY + 0x2000);
	expect("its address", own, 3);
	attack(0x10531af4);
	lengths();
	headers();
	connections();
}
