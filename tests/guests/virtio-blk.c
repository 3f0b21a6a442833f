/* A hostile driver of a disk: queues that are none, requests that are none, sectors that it does not have. The disk is a
 * partition, sectors 64 to 16447 behind a table, or 1,000 sectors that are read-only; each word of a sector is its number
 * on the board's disk. */
enum { QUEUE = 0, SIZE = 128, KIND = 0, MODERN = 0 };
#include "virtio.h"

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, OK = 0, IOERR = 1, UNSUPP = 2, UNTOUCHED = 0xee, RO = 1 << 5 };
enum { HEADER = 16, HEAD = BUFFER, BYTES = BUFFER + 0x1000, LATER = BUFFER + 0x20000, STATUS = BUFFER + 0x40000 };
enum { PATIENCE = 400000000, WRITTEN = 100, PATTERN = 0x0badf00d };

static u16 sent;
static u32 read_only, capacity, first, number;

/* A request of three buffers; what there was of it before is gone. */
static void make(u32 kind, u32 high, u32 low, u32 bytes, u32 length) {
	AT32(HEAD) = kind, AT32(HEAD + 4) = 0, AT32(HEAD + 8) = low, AT32(HEAD + 12) = high;
	AT8(STATUS) = UNTOUCHED;
	describe(0, 0, HEAD, HEADER, NEXT, length ? 1 : 2);
	describe(1, 0, bytes, length, NEXT | (kind == OUT ? 0 : WRITE), 2);
	describe(2, 0, STATUS, 1, WRITE, 0);
}

static void send(void) {
	AT16(AVAILABLE + 4 + 2 * (sent % SIZE)) = 0;
	AT16(AVAILABLE + 2) = ++sent;
	kick();
}

/* Sends it; returns its status. */
static u32 end(void) {
	send();
	for (u32 i = 0; i < PATIENCE && AT16(USED + 2) != sent; i++) asm volatile("pause");
	return AT16(USED + 2) == sent ? AT8(STATUS) : UNTOUCHED;
}

static u32 ask(u32 kind, u32 high, u32 low, u32 length) {
	make(kind, high, low, BYTES, length);
	return end();
}

static void works(const char *after) {
	set_up();
	sent = 0;
	make(IN, 0, first, LATER, 512);
	AT32(LATER) = AT32(LATER + 508) = 0;
	expect(after, end(), OK);
	expect(after, AT32(LATER), number);
	expect("the last word", AT32(LATER + 508), number);
}

/* What begins with less than a header, has no status, or more buffers than agreed. */
static void requests(void) {
	works("before requests");
	set_up();
	for (u32 length = 0; length < HEADER; length++) {
		make(OUT, 0, first, BYTES, 0), AT32(RING + 8) = length, broken("less than a header");
		/* The device has 16 bytes to read, of which it may read some only. */
		make(IN, 0, first, BYTES, 512), AT32(RING + 8) = length, broken("less than a header before data");
	}
	make(OUT, 0, first, BYTES, 512), describe(1, 0, BYTES, 512, 0, 0), broken("no status");
	make(IN, 0, first, BYTES, 0), describe(2, 0, STATUS, 0, WRITE, 0), broken("a status of no bytes");
	make(IN, 0, first, BYTES, 512), describe(2, 0, STATUS, 1, 0, 0), broken("a status that is not to be written");
	make(IN, 0, first, BYTES, 512), describe(2, 0, END, 1, WRITE, 0), broken("a status behind RAM");
	make(IN, 0, first, BYTES, 512), describe(2, 0, 0xfee00000, 1, WRITE, 0), broken("a status in the local APIC");
	make(IN, 0, first, BYTES, 0xffffffff), broken("4 GiB of data");
	make(OUT, 0, first, END - 511, 512), broken("data over the end of RAM");
	make(IN, 0, first, BYTES, 512);
	for (u32 n = 1; n <= 33; n++) describe(n, 0, BYTES, 512, NEXT | WRITE, n + 1);
	describe(34, 0, STATUS, 1, WRITE, 0), broken("more buffers than agreed");
	works("after requests");
	/* A header in sixteen pieces is one. */
	make(IN, 0, first, BYTES, 512);
	for (u32 n = 0; n < HEADER; n++) describe(10 + n, 0, HEAD + n, 1, NEXT, n == HEADER - 1 ? 1 : 11 + n);
	describe(0, 0, HEAD, 0, NEXT, 10);
	expect("a header in pieces", end(), OK);
	expect("what it reads", AT32(BYTES), number);
}

static void kinds(void) {
	static const u32 unknown[] = {2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 0x100, 0x10000, 0x80000000, 0x80000001, 0xffffffff};
	works("before kinds");
	for (u32 i = 0; i < sizeof unknown / 4; i++) expect("an unknown kind", ask(unknown[i], 0, first, 512), UNSUPP);
	for (u32 length = 0; length < 24; length++) expect("its name", ask(GET_ID, ~0u, ~0u, length), OK);
	expect("its name", AT32(BYTES), 'd' | 'i' << 8 | 's' << 16 | 'k' << 24);
	expect("a flush", ask(FLUSH, 0, 0, 0), OK);
	expect("a flush of a sector there is not", ask(FLUSH, ~0u, ~0u, 512), OK);
	works("after kinds");
}

/* Sectors at the end and beyond, and numbers of which the bytes, or the end, do not fit 64 bits. */
static void sectors(void) {
	const u32 beyond[][2] = {
		{0, capacity}, {0, capacity + 1}, {0, 0x7fffffff}, {0, 0xffffffff}, {1, 0}, {1, first}, {0x00800000, 0},
		{0x00800000, first}, {0x7fffffff, 0xffffffff}, {0x80000000, 0}, {0x80000000, first}, {0xffffffff, 0xffffffff - capacity},
		{0xffffffff, 0xfffffffe}, {0xffffffff, 0xffffffff},
	};
	static const u32 lengths[] = {512, 1024, 0x10000, 0x20000};
	works("before sectors");
	for (u32 i = 0; i < sizeof beyond / sizeof *beyond; i++) {
		for (u32 j = 0; j < sizeof lengths / 4; j++) {
			for (u32 kind = IN; kind <= OUT; kind++) {
				expect("a sector beyond", ask(kind, beyond[i][0], beyond[i][1], lengths[j]), IOERR);
			}
		}
	}
	for (u32 kind = IN; kind <= OUT; kind++) {
		expect("over the end", ask(kind, 0, capacity - 1, 1024), IOERR);
		expect("far over the end", ask(kind, 0, capacity - 1, 0x20000), IOERR);
		static const u32 odd[] = {1, 511, 513, 0xffff};
		for (u32 i = 0; i < sizeof odd / 4; i++) expect("half a sector", ask(kind, 0, first, odd[i]), IOERR);
	}
	expect("the last sector", ask(IN, 0, capacity - 1, 512), OK);
	expect("its number", AT32(BYTES), number + capacity - first - 1);
	works("after sectors");
}

/* What may not be written, and what may. */
static void writes(void) {
	works("before writes");
	for (u32 at = BYTES; at < BYTES + 0x10000; at += 4) AT32(at) = PATTERN;
	if (read_only) {
		for (u32 sector = 0; sector < capacity; sector += 111) expect("a write", ask(OUT, 0, sector, 512), IOERR);
	} else {
		for (u32 sector = 0; sector < first; sector++) expect("the table", ask(OUT, 0, sector, 512), IOERR);
		expect("the table and more", ask(OUT, 0, first - 1, 1024), IOERR);
		expect("a write", ask(OUT, 0, first + WRITTEN, 0x10000), OK);
		expect("a flush", ask(FLUSH, 0, 0, 0), OK);
	}
	expect("what is there", ask(IN, 0, first + WRITTEN, 512), OK);
	expect("what is there", AT32(BYTES + 508), read_only ? number + WRITTEN : PATTERN);
	works("after writes");
}

/* A device that is reset in the middle of a request does not write to its memory any more. */
static void in_the_middle(void) {
	for (u32 i = 0; i < 16; i++) {
		works("in the middle");
		make(IN, 0, first + i, BYTES, 0x10000);
		send();
		for (u32 wait = 0; wait < i * 10000; wait++) asm volatile("pause");
		reset();
		for (u32 at = BYTES; at < BYTES + 0x10000; at += 4) AT32(at) = PATTERN;
		works("after one in the middle");
		u32 changed = 0;
		for (u32 at = BYTES; at < BYTES + 0x10000; at += 4) changed += AT32(at) != PATTERN;
		expect("memory after a reset", changed, 0);
	}
}

static void guest(void) {
	config(0);
	configure(0x10, PORTS);
	configure(0x04, 7);
	read_only = in32(PORTS) & RO, capacity = in32(PORTS + 20);
	expect("sectors", in32(PORTS + 24), 0);
	expect("sectors", capacity, read_only ? 1000 : 16448);
	first = read_only ? 0 : 64, number = read_only ? 36864 : 2048;
	attack(0x10011af4);
	expect("what it is after all that", in32(PORTS + 20), capacity);
	requests();
	kinds();
	sectors();
	writes();
	in_the_middle();
}
