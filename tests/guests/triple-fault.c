/* A triple fault: no gate in the IDT for the exception, none for the double fault. The guest comes up again; it knows by a
 * word of memory that it has been here. */
#include "guest.h"

static void guest(void) {
	if (KEPT == 0x600d) return;
	expect("memory before", KEPT, 0);
	KEPT = 0x600d;
	print("guest: triple fault\n");
	load_idt(0, 0);
	/* For the log. */
	asm volatile("push %0; ud2" : : "a"((HIGH & (uword)0x1122334400000000ull) | 0xc0de));
}
