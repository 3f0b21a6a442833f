/* Sleeps until something is typed, and says what. */
#include "guest.h"

static void guest(void) {
	start_timer();
	while (!(in8(0x3fd) & 1)) asm volatile("sti; hlt; cli" : : : "memory");
	FACT("typed", in8(0x3f8));
}
