/* TCP and UDP between two guests, and inside one: a program without a C library.
 *
 * "net serve" answers at TCP port 7. The first byte of a connection says how: 'p' for each byte back, 'b' for one byte back
 * at the end of the data, 'w' for the data's sum at their end, which it begins to read after three seconds, 'q' to end.
 * "net count" counts datagrams at UDP port 7; whoever sends one that begins with 1 is told.
 * "net ADDRESS NAME TRANSFERS", with the address in hexadecimal, measures by RDTSC and prints
 * "= NAME MIN MEDIAN P99" in hexadecimal: round_trip_NAME for a byte there and back, and bulk_NAME for 4 MiB.
 * "net ADDRESS datagrams", "net ADDRESS window": sends 10,000 datagrams, or 4 MiB to a receiver whose window closes.
 * "net ADDRESS quit" ends the other. */
#include "program.h"

typedef unsigned short u16;

enum { BLOCK = 65536, BLOCKS = 64, PORT = 7, DATAGRAMS = 10000, WINDOW = 50, DATAGRAM = 100 };
enum { READ = 3, CLOSE = 6, SOCKETCALL = 102, YIELD = 158, NANOSLEEP = 162 };
enum { SOCKET = 1, BIND = 2, CONNECT = 3, LISTEN = 4, ACCEPT = 5, SENDTO = 11, RECVFROM = 12, SHUTDOWN = 13,
       SETSOCKOPT = 14 };
enum { STREAM = 1, DATAGRAM_SOCKET = 2 };

static char block[BLOCK];

static int socket_call(int number, int a, int b, int c, int d, int e, int f) {
	int arguments[6] = {a, b, c, d, e, f};
	return call(SOCKETCALL, number, (int)arguments, 0);
}

static void fail(const char *what) {
	print(what);
	print(" failed\n");
	call(EXIT, 1, 0, 0);
}

static u32 swapped(u32 value) {
	return value << 24 | (value & 0xff00) << 8 | (value >> 8 & 0xff00) | value >> 24;
}

/* struct sockaddr_in. */
struct address { u16 family, port; u32 host; char zero[8]; };

static int open_socket(int type) {
	int socket = socket_call(SOCKET, 2, type, 0, 0, 0, 0), on = 1;
	if (socket < 0) fail("socket");
	/* TCP_NODELAY: a byte is sent at once. Sockets of datagrams have no such option. */
	socket_call(SETSOCKOPT, socket, 6, 1, (int)&on, sizeof on, 0);
	return socket;
}

/* Tries until the other side listens. */
static int connection(u32 host, char kind) {
	struct address to = {2, PORT << 8, swapped(host), {0}};
	for (;;) {
		int socket = open_socket(STREAM);
		if (!socket_call(CONNECT, socket, (int)&to, sizeof to, 0, 0, 0)) {
			if (call(WRITE, socket, (int)&kind, 1) != 1) fail("write");
			return socket;
		}
		call(CLOSE, socket, 0, 0);
		call(YIELD, 0, 0, 0);
	}
}

static void sleep(int seconds) {
	int time[2] = {seconds, 0};
	call(NANOSLEEP, (int)time, 0, 0);
}

/* A sum of bytes that depends on their order. */
static u32 add(u32 sum, int count) {
	for (int i = 0; i < count; i++) sum = (sum << 1 | sum >> 31) + (unsigned char)block[i];
	return sum;
}

static void serve(void) {
	struct address here = {2, PORT << 8, 0, {0}};
	int listener = open_socket(STREAM);
	if (socket_call(BIND, listener, (int)&here, sizeof here, 0, 0, 0)) fail("bind");
	if (socket_call(LISTEN, listener, 1, 0, 0, 0, 0)) fail("listen");
	for (char kind = 0; kind != 'q';) {
		int client = socket_call(ACCEPT, listener, 0, 0, 0, 0, 0), on = 1, got;
		socket_call(SETSOCKOPT, client, 6, 1, (int)&on, sizeof on, 0);
		u32 sum = 0;
		if (call(READ, client, (int)&kind, 1) != 1) kind = 0;
		if (kind == 'w') sleep(3);
		while ((got = call(READ, client, (int)block, kind == 'p' ? 1 : BLOCK)) > 0) {
			if (kind == 'p') call(WRITE, client, (int)block, got);
			if (kind == 'w') sum = add(sum, got);
		}
		if (kind == 'b') call(WRITE, client, (int)block, 1);
		if (kind == 'w') call(WRITE, client, (int)&sum, sizeof sum);
		call(CLOSE, client, 0, 0);
	}
}

static void count_datagrams(void) {
	struct address here = {2, PORT << 8, 0, {0}}, from;
	int socket = open_socket(DATAGRAM_SOCKET);
	if (socket_call(BIND, socket, (int)&here, sizeof here, 0, 0, 0)) fail("bind");
	for (u32 count = 1;; count++) {
		int size = sizeof from;
		if (socket_call(RECVFROM, socket, (int)block, BLOCK, 0, (int)&from, (int)&size) != DATAGRAM) fail("a datagram");
		if (block[0] == 1) socket_call(SENDTO, socket, (int)&count, sizeof count, 0, (int)&from, size);
	}
}

/* Never more than a receiver's socket has room for. */
static void datagrams(u32 host) {
	struct address to = {2, PORT << 8, swapped(host), {0}};
	int socket = open_socket(DATAGRAM_SOCKET);
	u32 count = 0;
	if (socket_call(CONNECT, socket, (int)&to, sizeof to, 0, 0, 0)) fail("connect");
	for (u32 i = 1; i <= DATAGRAMS; i++) {
		block[0] = i % WINDOW == 0;
		if (call(WRITE, socket, (int)block, DATAGRAM) != DATAGRAM) fail("send");
		if (block[0] && call(READ, socket, (int)&count, sizeof count) != sizeof count) fail("the count");
	}
	if (count != DATAGRAMS) fail("all datagrams");
	print("all datagrams arrived\n");
}

static void closed_window(u32 host) {
	int server = connection(host, 'w'), wrote;
	u32 sum = 0, theirs, blocks = 0;
	for (; blocks < BLOCKS; blocks++) {
		for (int i = 0; i < BLOCK; i++) block[i] = (char)(i * 7 + (int)blocks);
		sum = add(sum, BLOCK);
		for (int done = 0; done < BLOCK; done += wrote)
			if ((wrote = call(WRITE, server, (int)(block + done), BLOCK - done)) <= 0) fail("write");
	}
	socket_call(SHUTDOWN, server, 1, 0, 0, 0, 0);
	if (call(READ, server, (int)&theirs, sizeof theirs) != sizeof theirs || theirs != sum) fail("the sum");
	print("the sum is the same\n");
}

static void round_trips(u32 host, const char *name) {
	int server = connection(host, 'p');
	char byte = 0;
	for (u32 i = 0; i < ROUNDS; i++) {
		u32 start = tsc();
		if (call(WRITE, server, (int)&byte, 1) != 1 || call(READ, server, (int)&byte, 1) != 1) fail("round trip");
		samples[i] = tsc() - start;
	}
	call(CLOSE, server, 0, 0);
	row("round_trip_", name, ROUNDS);
}

static void transfer(u32 host) {
	int server = connection(host, 'b');
	char byte;
	for (u32 sent = 0; sent < BLOCKS; sent++) {
		int done = 0, wrote;
		for (; done < BLOCK; done += wrote)
			if ((wrote = call(WRITE, server, (int)(block + done), BLOCK - done)) <= 0) fail("transfer");
	}
	socket_call(SHUTDOWN, server, 1, 0, 0, 0, 0);
	if (call(READ, server, (int)&byte, 1) != 1) fail("the end of a transfer");
	call(CLOSE, server, 0, 0);
}

static u32 number(const char *text, u32 base) {
	u32 value = 0;
	for (; *text; text++) value = base * value + (u32)(*text <= '9' ? *text - '0' : *text - 'a' + 10);
	return value;
}

void begin(u32 *stack) {
	const char *first = (const char *)stack[2];
	if (stack[0] == 2) {
		if (*first == 'c') count_datagrams();
		serve();
		call(EXIT, 0, 0, 0);
	}
	u32 host = number(first, 16);
	if (stack[0] == 3) {
		switch (*(const char *)stack[3]) {
		case 'd': datagrams(host); break;
		case 'w': closed_window(host); break;
		default: call(CLOSE, connection(host, 'q'), 0, 0);
		}
		call(EXIT, 0, 0, 0);
	}
	u32 transfers = number((const char *)stack[4], 10);
	round_trips(host, (const char *)stack[3]);
	for (u32 i = 0; i < transfers; i++) {
		u32 start = tsc();
		transfer(host);
		samples[i] = tsc() - start;
	}
	row("bulk_", (const char *)stack[3], transfers);
	drain();
	call(EXIT, 0, 0, 0);
}
