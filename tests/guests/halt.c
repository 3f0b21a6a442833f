/* HLT waits for an interrupt where interrupts are on, and is the power switch where they are off. The timer wakes the
 * guest ten times; also an interrupt that waits already, behind the STI of `sti; hlt`. */
#include "guest.h"

static void guest(void) {
	start_timer();
	for (u32 n = 1; n <= 10; n++) {
		asm volatile("sti; hlt; cli" : : : "memory");
		expect("ticks", ticks, n);
	}
	/* The tick is there before the HLT. */
	while (!(out8(0x20, 0x0a), in8(0x20) & 1)) {}
	asm volatile("sti; hlt; cli" : : : "memory");
	expect("ticks, with one waiting", ticks, 11);
	/* The interrupt comes behind the instruction after STI, not before it. */
	while (!(out8(0x20, 0x0a), in8(0x20) & 1)) {}
	u32 seen;
	asm volatile("sti; mov ticks, %0; nop; cli" : "=r"(seen) : : "memory");
	expect("ticks in the shadow of STI", seen, 11);
	expect("ticks behind it", ticks, 12);
	/* The same shadow, with an instruction that exits in it. */
	while (!(out8(0x20, 0x0a), in8(0x20) & 1)) {}
	asm volatile("sti; in $0x80, %%al; mov ticks, %0; cli" : "=&r"(seen) : : "eax", "memory");
	expect("ticks behind an IN in the shadow", seen, 13);
}
