/* Four billion bytes by one REP INS, with interrupts off, for good: the VMM is always at work for it. What else runs on the
 * machine must go on. */
#include "guest.h"

static void guest(void) {
	print("guest: floods\n");
	for (;;) {
		u32 edi = 0xe0000000, ecx = 0xffffffff;
		asm volatile("rep insb" : "+D"(edi), "+c"(ecx) : "d"(0x500) : "memory");
	}
}
