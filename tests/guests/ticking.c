/* Waits for its timer fifty times: half a second, in which whatever runs beside it may do its worst. */
#include "guest.h"

static void guest(void) {
	start_timer();
	while (ticks < 50) asm volatile("sti; hlt; cli" : : : "memory");
}
