/* Spins with interrupts off, for good. What else runs on the machine must go on. */
#include "guest.h"

static void guest(void) {
	print("guest: spins\n");
	for (;;) asm volatile("cli");
}
