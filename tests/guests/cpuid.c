/* Executes CPUID for every leaf of the three ranges, with four subleaves each. Facts: those that are not zero. */
#include "guest.h"

static void range(u32 first, u32 last) {
	for (u32 leaf = first; leaf <= last; leaf++) {
		for (u32 subleaf = 0; subleaf < 4; subleaf++) {
			uword a = HIGH | leaf, b = HIGH, c = HIGH | subleaf, d = HIGH;
			asm volatile("cpuid" : "+a"(a), "+b"(b), "+c"(c), "+d"(d));
			expect("CPUID: upper halves", (a | b | c | d) & HIGH, 0);
			if (a | b | c | d) FACT("cpuid", leaf, subleaf, a, b, c, d);
		}
	}
}

static void guest(void) {
	range(0, 0x40);
	range(0x40000000, 0x40000010);
	range(0x80000000, 0x80000040);
	FACT("done", 0);
}
