/* A hostile driver of a channel: registers at every width, dataports that it may not write, and BARs that it moves over
 * everything. Facts: `events`, how many it has emitted. The channel has three dataports: 4 KiB that it may write, 8 KiB that it
 * may not, and 64 KiB that both may. */
#include "pci.h"

enum { REGISTERS = 0xe0000000, ELSEWHERE = 0xe0100000, END = 0x400000 };
enum { OWN = 0x4000000, OTHERS = 0x4002000, BOTH = 0x4010000 };

static void header(void) {
	expect("identity", config(0), 0x10f01af4);
	expect("dataport 0", config(0x14), OWN);
	expect("dataport 1", config(0x18), OTHERS);
	expect("dataport 2", config(0x1c), BOTH);
	u32 at = config(0x34) & 0xff;
	expect("capability", config(at), 0x010d0009);
	expect("dataports, writable", config(at + 4) & 0xffff, 0x0503);
	configure(0x10, REGISTERS);
	configure(4, 2);
}

/* At home, by the processor alone. */
static void at_home(void) {
	for (u32 at = OWN; at < OWN + 0x1000; at += 4) AT32(at) = at;
	for (u32 at = OWN; at < OWN + 0x1000; at += 4) expect("at home", AT32(at), at);
	AT8(BOTH + 0xffff) = 0x5a;
	expect("the last byte", AT8(BOTH + 0xffff), 0x5a);
	for (u32 n = 0; n < 40; n++) {
		AT32(OTHERS + 4 * n) = 1;
		AT16(OTHERS + 0x1000 + n) = 1;
		AT8(OTHERS + 0x1fff) = 1;
	}
	u32 to = OTHERS, from = OWN, count = 64;
	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
	for (u32 at = OTHERS; at < OTHERS + 0x2000; at += 4) expect("only the other end writes", AT32(at), 0);
}

/* Elsewhere, by copies; and in places where it must not answer. */
static void moved(void) {
	configure(0x14, ELSEWHERE);
	expect("moved", AT32(ELSEWHERE + 0x10), OWN + 0x10);
	AT32(ELSEWHERE + 0xffc) = 0x12345678;
	AT8(ELSEWHERE + 0xffc) = 0x9a;
	expect("a copy", AT32(OWN + 0xffc), 0x1234569a);
	expect("behind it", AT32(ELSEWHERE + 0x1000), 0xffffffff);
	/* Over its end, byte by byte: nobody answers for what is behind it. */
	expect("over the end", AT32(ELSEWHERE + 0xffe), 0xffff1234);
	u32 from = ELSEWHERE, to = 0x300000, count = 64;
	asm volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
	expect("a string", AT32(0x3000fc), OWN + 0xfc);
	configure(0x18, ELSEWHERE + 0x10000);
	AT32(ELSEWHERE + 0x10000) = 7;
	expect("elsewhere too", AT32(ELSEWHERE + 0x10000), 0);
	static const u32 places[] = {0, 0x1000, 0x100000, END - 0x1000, 0xfee00000, 0xfffff000, REGISTERS, OTHERS};
	u32 apic = AT32(0xfee00030);
	AT32(0x200000) = 0xabcd;
	for (u32 i = 0; i < sizeof places / 4; i++)
		for (u32 bar = 0x14; bar <= 0x1c; bar += 4) {
			configure(bar, places[i]);
			expect("RAM", AT32(0x200000), 0xabcd);
			expect("the local APIC", AT32(0xfee00030), apic);
			expect("a home stays", AT32(OWN + 0xffc), 0x1234569a);
		}
	for (u32 bar = 0x14; bar <= 0x1c; bar += 4) configure(bar, 0xffffffff);
	expect("sizes", config(0x14) ^ config(0x18) ^ config(0x1c), 0xfffff000 ^ 0xffffe000 ^ 0xffff0000);
	configure(0x14, OWN), configure(0x18, OTHERS), configure(0x1c, BOTH);
	configure(0x10, REGISTERS);
}

static void registers(void) {
	u32 events = 0;
	/* The other end has no driver: nothing comes. */
	for (u32 at = 0; at < 0x1000; at += 4) expect("a register", AT32(REGISTERS + at), 0);
	for (u32 at = 0; at < 0x1000; at++) AT8(REGISTERS + at) = 0xff;
	for (u32 at = 0; at < 0x1000; at += 2) AT16(REGISTERS + at) = 0xffff;
	for (u32 at = 1; at < 16; at++) if (at != 8) AT32(REGISTERS + at) = 0xffffffff;
	expect("no event", AT32(REGISTERS), 0);
	expect("nothing is taken", AT32(REGISTERS + 8), 0);
	for (; events < 1000; events++) AT32(REGISTERS) = events;
	expect("events", AT32(REGISTERS), events);
	expect("bytes of them", AT8(REGISTERS) | AT8(REGISTERS + 1) << 8, events);
	/* What the guest says that it has taken is its own affair. */
	expect("no interrupt", config(4) >> 19 & 1, 0);
	AT32(REGISTERS + 8) = 5;
	expect("an interrupt", config(4) >> 19 & 1, 1);
	AT32(REGISTERS + 8) = 0;
	expect("no interrupt any more", config(4) >> 19 & 1, 0);
	FACT("events", events);
}

static void guest(void) {
	header();
	at_home();
	registers();
	moved();
	/* Switched off, a BAR does not answer. */
	configure(4, 0);
	expect("off", AT32(REGISTERS), 0xffffffff);
}
