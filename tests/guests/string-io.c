/* INS and OUTS, repeated and not, of every width, up and down, with addresses of every size, which wrap. */
#include "guest.h"

static u8 buffer[4096];

#define STRING(instruction, index, start, count, port)                      \
	({                                                                      \
		uword where = (uword)(start), left = (count);                       \
		asm volatile(instruction : "+" index(where), "+c"(left) : "d"(port) : "memory", "cc"); \
		cx = left;                                                          \
		where;                                                              \
	})
static uword cx;

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
	expect("rep insb: edi", STRING("rep insb", "D", buffer + 16, 1000, 0x500), (uword)buffer + 1016);
	expect("rep insb: ecx", cx, 0);
	expect("rep insb: bytes", ones(16, 1000), 1);
	fill(0x11);
	expect("rep insw: edi", STRING("rep insw", "D", buffer + 15, 301, 0x500), (uword)buffer + 617);
	expect("rep insw: bytes", ones(15, 602), 1);
	fill(0x11);
	expect("rep insl: edi", STRING("rep insl", "D", buffer + 14, 300, 0x500), (uword)buffer + 1214);
	expect("rep insl: bytes", ones(14, 1200), 1);
	fill(0x11);
	expect("insb: edi", STRING("insb", "D", buffer + 16, 5, 0x500), (uword)buffer + 17);
	expect("insb: ecx", cx, 5);
	expect("insb: byte", ones(16, 1), 1);
	fill(0x11);
	expect("rep insw down: edi", STRING("std; rep insw; cld", "D", buffer + 1000, 100, 0x500), (uword)buffer + 800);
	expect("rep insw down: bytes", ones(802, 200), 1);
	fill(0x11);
	expect("rep insb of none: edi", STRING("rep insb", "D", buffer, 0, 0x500), (uword)buffer);
	expect("rep insb of none: byte", buffer[0], 0x11);
	/* Into addresses without RAM: the bytes vanish. */
	expect("insl to nowhere: edi", STRING("rep insl", "D", 0xe0000000, 100, 0x500), 0xe0000190);
}

static void outs(void) {
	static const char text[] = "= text of REP OUTSB, longer than the sixteen bytes of a FIFO and than sixty-four\n";
	expect("rep outsb: esi", STRING("rep outsb", "S", text, sizeof text - 1, 0x3f8), (uword)text + sizeof text - 1);
	expect("rep outsb: ecx", cx, 0);
	/* A byte a time, since these ports have only that: the CMOS's address, which a port reads back. */
	static const u16 words[] = {0x1111, 0x2222};
	expect("rep outsw: esi", STRING("rep outsw", "S", words, 2, 0x80), (uword)(words + 2));
	expect("rep outsw: port", in8(0x80), 0x22);
	static const u32 address[] = {0x80000000};
	expect("outsl: esi", STRING("outsl", "S", address, 7, 0xcf8), (uword)(address + 1));
	expect("outsl: ecx", cx, 7);
	u32 here = in32(0xcfc), there[2] = {0, 0};
	STRING("rep insl", "D", there, 2, 0xcfc);
	expect("host bridge by IN", here != 0xffffffff, 1);
	expect("host bridge by INS", there[0], here);
	expect("host bridge by INS, again", there[1], here);
	/* From addresses without RAM: all ones. */
	STRING("outsb", "S", 0xe0000000, 1, 0x80);
	expect("outsb from nowhere", in8(0x80), 0xff);
}

/* A byte a place, at places that are not in the image. */
#define BYTE(at) (*(volatile u8 *)(at))

#ifdef __x86_64__

/* An alias of everything in the upper half. */
#define UPPER 0xffff888000000000ull

/* With short addresses, RDI and RCX have 32 bits, and become as wide. With long ones, there is no end at 4 GiB. */
static void widths(void) {
	uword low = (uword)buffer;
	PML4[0x111] = PML4[0];
	fill(0x11);
	expect("upper rep insb: rdi", STRING("rep insb", "D", UPPER + low + 16, 1000, 0x500), UPPER + low + 1016);
	expect("upper rep insb: bytes", ones(16, 1000), 1);
	fill(0x11);
	expect("addr32 rep insb: rdi", STRING("addr32 rep insb", "D", UPPER << 32 | (low + 16), UPPER << 32 | 100, 0x500), low + 116);
	expect("addr32 rep insb: rcx", cx, 0);
	expect("addr32 rep insb: bytes", ones(16, 100), 1);
	expect("addr32 insb: rcx", (STRING("addr32 insb", "D", low, UPPER | 3, 0x500), cx), UPPER | 3);
	BYTE(0) = BYTE(7) = BYTE(8) = 0x11;
	expect("addr32 rep insb past 4 GiB: rdi", STRING("addr32 rep insb", "D", 0xfffffff8, 16, 0x500), 8);
	expect("addr32 rep insb past 4 GiB: bytes", BYTE(0) | BYTE(7) << 8 | BYTE(8) << 16, 0x11ffff);
	BYTE(0) = 0x11;
	/* The next 4 GiB are as the first. */
	PDPT[4] = PDPT[0];
	expect("rep insb past 4 GiB: rdi", STRING("rep insb", "D", 0xfffffff8, 8, 0x500), 0x100000000);
	BYTE(0x100000) = 0x11;
	expect("rep insb past 4 GiB: byte", STRING("rep insb", "D", 0x100100000, 1, 0x500), 0x100100001);
	expect("rep insb past 4 GiB: byte", BYTE(0x100000), 0xff);
	static const char text[] = "= text of REP OUTSB from the upper half\n";
	STRING("rep outsb", "S", UPPER + (uword)text, sizeof text - 1, 0x3f8);
}

#else

/* With short addresses, DI wraps and CX counts in 16 bits: 0x12340003 bytes is 3. */
static void widths(void) {
	*(volatile u32 *)0x5000 = 0x11111111;
	expect("16-bit insb: edi", STRING("addr16 rep insb", "D", 0xabc05000, 0x12340003, 0x500), 0xabc05003);
	expect("16-bit insb: ecx", cx, 0x12340000);
	expect("16-bit insb: bytes", *(volatile u32 *)0x5000, 0x11ffffff);
	BYTE(0) = BYTE(7) = BYTE(8) = BYTE(0x10000) = 0x11;
	expect("16-bit insb past 64 KiB: edi", STRING("addr16 rep insb", "D", 0x1234fff8, 16, 0x500), 0x12340008);
	expect("16-bit insb past 64 KiB: bytes", BYTE(0) | BYTE(7) << 8 | BYTE(8) << 16 | (u32)BYTE(0x10000) << 24, 0x1111ffff);
	BYTE(0) = BYTE(7) = BYTE(0xfff8) = BYTE(0xfff7) = 0x11;
	expect("16-bit insb down: edi", STRING("std; addr16 rep insb; cld", "D", 7, 16, 0x500), 0xfff7);
	expect("16-bit insb down: bytes", BYTE(0) | BYTE(7) << 8 | BYTE(0xfff8) << 16 | (u32)BYTE(0xfff7) << 24, 0x11ffffff);
	BYTE(0) = BYTE(7) = BYTE(8) = 0x11;
	expect("insb past 4 GiB: edi", STRING("rep insb", "D", 0xfffffff8, 16, 0x500), 8);
	expect("insb past 4 GiB: bytes", BYTE(0) | BYTE(7) << 8 | BYTE(8) << 16, 0x11ffff);
}

#endif

static void guest(void) {
	ins();
	widths();
	outs();
}
