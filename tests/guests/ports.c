/* IN and OUT of every width at every port, those of the UART last. Facts: which ports read something else than all ones.
 * What is written resets nothing: 0 and 0xaa leave the reset bits of ports 0x64, 0x92 and 0xcf9 alone. */
#include "guest.h"

/* The first and last port of a run of ports that answer. */
static u32 first, last = -2;

static void answers(u32 width, u32 port, int answer) {
	if (answer && last + 1 == port) {
		last = port;
	} else if (answer) {
		first = last = port;
	} else if (last + 1 == port && first <= last) {
		FACT("port", width, first, last);
		last = -2;
	}
}

static void every_port(u32 from, u32 to) {
	for (u32 port = from; port < to; port++) {
		out8(port, 0xaa);
		out16(port, 0);
		out32(port, 0xffffaa00);
	}
}

/* IN leaves the rest of the register alone, but for the upper half. */
static void registers(void) {
	const uword kept = (HIGH & (uword)0x1122334455667788ull) | 0x55667788;
	uword a = kept;
	asm volatile("inb %w1, %b0" : "+a"(a) : "d"(HIGH | 0x500));
	expect("IN AL", a, kept | 0xff);
	a = kept;
	asm volatile("inw %w1, %w0" : "+a"(a) : "d"(0x500));
	expect("IN AX", a, kept | 0xffff);
	a = kept;
	asm volatile("inl %w1, %k0" : "+a"(a) : "d"(0x500));
	expect("IN EAX", a, 0xffffffff);
	a = kept;
	asm volatile("outb %b0, $0x80\n\tinb $0x80, %b0" : "+a"(a));
	expect("OUT and IN AL", a, kept);
	out32(0xcf8, 0x80000000);
	expect("configuration address", in32(0xcf8), 0x80000000);
	out32(0xcf8, 0);
}

static void guest(void) {
	registers();
	for (u32 port = 0; port < 0x10000; port++) answers(1, port, in8(port) != 0xff);
	answers(1, 0x10000, 0);
	for (u32 port = 0; port < 0x10000; port++) answers(2, port, in16(port) != 0xffff);
	answers(2, 0x10000, 0);
	for (u32 port = 0; port < 0x10000; port++) answers(4, port, in32(port) != 0xffffffff);
	answers(4, 0x10000, 0);
	every_port(0, 0x3f8);
	out8(0x43, 0x30);  /* the timer waits for a count, so that it does not interrupt all the time */
	every_port(0x400, 0x10000);
	every_port(0x3f8, 0x400);
	out8(0x3fb, 0);    /* line control: DLAB off, so that the next is the interrupt enable register */
	out8(0x3f9, 0);
	out8(0x3fa, 0);
	out8(0x3fc, 0);    /* loop-back off */
	out8(0x3fb, 0x80);
	out8(0x3f8, 1);
	out8(0x3f9, 0);
	out8(0x3fb, 3);
	print("\n");
}
