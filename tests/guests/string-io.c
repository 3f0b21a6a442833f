/* INS and OUTS, repeated and not, of every width, up and down, with 32-bit and 16-bit addresses. */
#include "guest.h"

static u8 buffer[4096];

#define STRING(instruction, index, start, count, port)                      \
	({                                                                      \
		u32 where = (u32)(start), left = (count);                           \
		asm volatile(instruction : "+" index(where), "+c"(left) : "d"(port) : "memory", "cc"); \
		ecx = left;                                                         \
		where;                                                              \
	})
static u32 ecx;

static void fill(u8 byte) {
	for (u32 i = 0; i < sizeof buffer; i++) buffer[i] = byte;
}

/* Whether `count` bytes from `at` are 0xff, and those beside them still 0x11. */
static u32 ones(u32 at, u32 count) {
	u32 right = buffer[at - 1] == 0x11 && buffer[at + count] == 0x11;
	for (u32 i = 0; i < count; i++) right &= buffer[at + i] == 0xff;
	return right;
}

static void ins(void) {
	/* More than the VMM does at one exit, from a port that nobody owns. */
	fill(0x11);
	expect("rep insb: edi", STRING("rep insb", "D", buffer + 16, 1000, 0x500), (u32)buffer + 1016);
	expect("rep insb: ecx", ecx, 0);
	expect("rep insb: bytes", ones(16, 1000), 1);
	fill(0x11);
	expect("rep insw: edi", STRING("rep insw", "D", buffer + 15, 301, 0x500), (u32)buffer + 617);
	expect("rep insw: bytes", ones(15, 602), 1);
	fill(0x11);
	expect("rep insl: edi", STRING("rep insl", "D", buffer + 14, 300, 0x500), (u32)buffer + 1214);
	expect("rep insl: bytes", ones(14, 1200), 1);
	fill(0x11);
	expect("insb: edi", STRING("insb", "D", buffer + 16, 5, 0x500), (u32)buffer + 17);
	expect("insb: ecx", ecx, 5);
	expect("insb: byte", ones(16, 1), 1);
	fill(0x11);
	expect("rep insw down: edi", STRING("std; rep insw; cld", "D", buffer + 1000, 100, 0x500), (u32)buffer + 800);
	expect("rep insw down: bytes", ones(802, 200), 1);
	fill(0x11);
	expect("rep insb of none: edi", STRING("rep insb", "D", buffer, 0, 0x500), (u32)buffer);
	expect("rep insb of none: byte", buffer[0], 0x11);
	/* DI wraps and CX counts in 16 bits: 0x12340003 bytes is 3. */
	*(volatile u32 *)0x5000 = 0x11111111;
	expect("16-bit insb: edi", STRING("addr16 rep insb", "D", 0xabc05000, 0x12340003, 0x500), 0xabc05003);
	expect("16-bit insb: ecx", ecx, 0x12340000);
	expect("16-bit insb: bytes", *(volatile u32 *)0x5000, 0x11ffffff);
	/* Into addresses without RAM: the bytes vanish. */
	expect("insl to nowhere: edi", STRING("rep insl", "D", 0xe0000000, 100, 0x500), 0xe0000190);
}

static void outs(void) {
	static const char text[] = "= text of REP OUTSB, longer than the sixteen bytes of a FIFO and than sixty-four\n";
	expect("rep outsb: esi", STRING("rep outsb", "S", text, sizeof text - 1, 0x3f8), (u32)text + sizeof text - 1);
	expect("rep outsb: ecx", ecx, 0);
	/* A byte a time, since these ports have only that: the CMOS's address, which a port reads back. */
	static const u16 words[] = {0x1111, 0x2222};
	expect("rep outsw: esi", STRING("rep outsw", "S", words, 2, 0x80), (u32)(words + 2));
	expect("rep outsw: port", in8(0x80), 0x22);
	static const u32 address[] = {0x80000000};
	expect("outsl: esi", STRING("outsl", "S", address, 7, 0xcf8), (u32)(address + 1));
	expect("outsl: ecx", ecx, 7);
	u32 here = in32(0xcfc), there[2] = {0, 0};
	STRING("rep insl", "D", there, 2, 0xcfc);
	expect("host bridge by IN", here != 0xffffffff, 1);
	expect("host bridge by INS", there[0], here);
	expect("host bridge by INS, again", there[1], here);
	/* From addresses without RAM: all ones. */
	STRING("outsb", "S", 0xe0000000, 1, 0x80);
	expect("outsb from nowhere", in8(0x80), 0xff);
}

static void guest(void) {
	ins();
	outs();
}
