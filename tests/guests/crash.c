/* Crashes as soon as it is started, each time. */
#include "guest.h"

static void guest(void) {
	load_idt(0, 0);
	asm volatile("mov $0xc0de, %eax\n\tud2");
}
