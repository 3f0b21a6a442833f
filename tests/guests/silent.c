/* The driver of an NE2000 (National Semiconductor DP8390D, section 10) that switches its card's decoding off, finds it alive all the
 * same, and then sends a frame a second for eight seconds. Whether it gets interrupts, its VMM's log has to say. */
#include "guest.h"
#include "ne2000.h"

/* Configuration space: command. */
enum { CONTROL = 0x04 };
enum { SECONDS = 8, TICKS = 100 };

static volatile u32 interrupts;

void serve(void) {
	interrupts++;
	out8(card + STATUS, SENT);
	out8(0xa0, 0x20);
	out8(0x20, 0x20);
}

static void guest(void) {
	out32(0xcf8, FUNCTION | BAR0);
	card = in32(0xcfc) & ~3;
	out32(0xcf8, FUNCTION | INTERRUPT);
	u32 line = in8(0xcfc);
	start_interrupts(line);
	out32(0xcf8, FUNCTION | CONTROL);
	out16(0xcfc, 0);
	u32 control = in16(0xcfc);
	start_card();
	FACT("hidden", control, in8(card + COMMAND));
	for (u32 second = 0; second < SECONDS; second++) {
		out8(card + COMMAND, SEND);
		for (u32 since = ticks; ticks - since < TICKS;) asm volatile("sti; hlt" : : : "memory");
	}
	asm volatile("cli");
	FACT("interrupts", interrupts);
}
