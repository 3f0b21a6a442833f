/* Works without a pause, and says how much it has done: rounds of a loop with an exit each, counted in windows of time
 * that are the same for all guests of the machine, whose TSC they share. A round's least time is what it takes alone. */
#include "guest.h"

enum { WINDOW_BITS = 27, WINDOWS = 3 };

static inline u64 tsc(void) {
	u32 low, high;
	asm volatile("rdtsc" : "=a"(low), "=d"(high));
	return (u64)high << 32 | low;
}

static void guest(void) {
	u32 rounds[WINDOWS] = {0}, alone = ~0u;
	/* Guests start one after the other, so the first windows are not all theirs. */
	u32 first = (u32)(tsc() >> WINDOW_BITS) + 2;
	for (u64 before = tsc();;) {
		u32 spins = 1000, leaf = 0, ebx, ecx = 0, edx;
		asm volatile("1: dec %0\n\tjnz 1b" : "+r"(spins));
		asm volatile("cpuid" : "+a"(leaf), "=b"(ebx), "+c"(ecx), "=d"(edx));
		u64 now = tsc();
		u32 took = now - before, window = (u32)(now >> WINDOW_BITS);
		if (took < alone) alone = took;
		before = now;
		if (window >= first + WINDOWS) break;
		if (window >= first) rounds[window - first]++;
	}
	for (u32 i = 0; i < WINDOWS; i++) FACT("window", rounds[i], alone, 1u << WINDOW_BITS);
}
