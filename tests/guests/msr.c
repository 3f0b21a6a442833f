/* Reads and then writes zero to every MSR of the two architectural ranges. Facts: those that are there, and how many
 * faulted, with #GP and otherwise. */
#include "guest.h"

static u32 protection, other;

static int there(u32 vector) {
	if (vector == GP) protection++;
	else if (vector != NONE) other++;
	return vector == NONE;
}

static void range(u32 first) {
	for (u32 msr = first; msr < first + 0x2000; msr++) {
		uword low = HIGH | msr, high = HIGH | 0x5a5a5a5a;
		if (there(PROBE("rdmsr", : "+a"(low), "+d"(high) : "c"(HIGH | msr) : "memory"))) {
			FACT("read", msr, high, low);
			expect("RDMSR: upper halves", (low | high) & HIGH, 0);
		}
		if (there(PROBE("wrmsr", : : "a"(0), "d"(0), "c"(msr) : "memory"))) FACT("write", msr);
	}
}

static void guest(void) {
	range(0);
	range(0xc0000000);
	FACT("faults", protection, other);
}
