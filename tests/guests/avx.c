/* XSAVE and AVX, where CPUID has them: CR4.OSXSAVE and CPUID's copy of it, XCR0, and sums in the registers of 256 bits, which no
 * other guest disturbs while they preempt each other, nor by its XCR0. */
#include "guest.h"

enum { XSAVE = 1 << 26, OSXSAVE = 1 << 27, AVX = 1 << 28, OS_BIT = 1 << 18, ROUNDS = 400, BURST = 2000 };

static u32 features(void) {
	u32 a = 1, b, c = 0, d;
	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return c;
}

static u32 set_xcr(u32 number, u32 low) {
	return PROBE("xsetbv", : : "a"(low), "d"(0), "c"(number) : "memory");
}

static u32 from_user;

static void user(void) {
	from_user = set_xcr(0, 7);
}

static void turn_on(void) {
	uword cr4, cr0;
	u32 low, high;
	expect("OSXSAVE at the start", features() & OSXSAVE, 0);
	expect("XGETBV without CR4.OSXSAVE", PROBE("xgetbv", : "=a"(low), "=d"(high) : "c"(0) : "memory"), UD);
	expect("XSETBV without CR4.OSXSAVE", set_xcr(0, 7), UD);
	asm volatile("mov %%cr0, %0" : "=r"(cr0));
	asm volatile("mov %0, %%cr0" : : "r"((cr0 & ~12ul) | 2) : "memory");
	asm volatile("mov %%cr4, %0" : "=r"(cr4));
	asm volatile("mov %0, %%cr4" : : "r"(cr4 | OS_BIT | 0x600) : "memory");
	expect("OSXSAVE", features() & OSXSAVE, OSXSAVE);
	expect("XCR0 without x87", set_xcr(0, 6), GP);
	expect("XCR0: AVX without SSE", set_xcr(0, 5), GP);
	expect("XCR0: a component that is not there", set_xcr(0, 0xe7), GP);
	expect("XCR1", set_xcr(1, 7), GP);
	expect("XCR0", set_xcr(0, 7), NONE);
	asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	expect("XCR0", low, 7);
	/* Without AVX, for as long as this guest runs: it is a processor's register, and others' sums need AVX. */
	expect("XCR0 without AVX", set_xcr(0, 3), NONE);
	asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	expect("XCR0 is not the guest's own", low, 7);
	in_user_mode(user);
	expect("XSETBV of a user program", from_user, GP);
	u32 a = 0xd, b, c = 0, d;
	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	expect("CPUID: components", a, 7);
	expect("CPUID: bytes now", b, 832);
	expect("CPUID: bytes at most", c, 832);
}

u32 area[1024] __attribute__((aligned(64)));
u32 sums[8], seeds[8];

/* YMM0 counts by YMM1, as long as it takes to be preempted; YMM7 stays what it is. */
static void sum(u32 salt) {
	u32 counted = 0;
	for (u32 i = 0; i < 8; i++) seeds[i] = salt + i;
	asm volatile("vmovups seeds, %%ymm1; vmovups %%ymm1, %%ymm7; vxorps %%ymm0, %%ymm0, %%ymm0" : : : "memory");
	start_timer();
	while (ticks < ROUNDS / 4) {
		for (u32 i = 0; i < BURST; i++) {
			/* Both halves of 128 bits, without AVX2. */
			asm volatile("vextractf128 $1, %%ymm0, %%xmm2; vextractf128 $1, %%ymm1, %%xmm3; vpaddd %%xmm3, %%xmm2, %%xmm2;"
				"vpaddd %%xmm1, %%xmm0, %%xmm3; vinsertf128 $1, %%xmm2, %%ymm3, %%ymm0" : : : "memory");
		}
		counted += BURST;
		if (counted % (BURST * 16) == 0) asm volatile("sti; hlt; cli" : : : "memory");
		else asm volatile("sti; nop; cli" : : : "memory");
	}
	asm volatile("vmovups %%ymm0, sums; vmovups %%ymm7, seeds" : : : "memory");
	for (u32 i = 0; i < 8; i++) {
		expect("a sum", sums[i], counted * (salt + i));
		expect("a register that stays", seeds[i], salt + i);
	}
	FACT("sums", counted);
}

/* XSAVE writes the upper halves, and XRSTOR brings them back. */
static void save(void) {
	asm volatile("vmovups seeds, %%ymm5; xsave area; vxorps %%ymm5, %%ymm5, %%ymm5; xrstor area; vmovups %%ymm5, sums"
		: : "a"(7), "d"(0) : "memory");
	for (u32 i = 0; i < 8; i++) expect("a register after XRSTOR", sums[i], seeds[i]);
	expect("the components in the header", area[128] & 4, 4);
	expect("the upper half of YMM5", area[144 + 4 * 5], seeds[4]);
}

static void guest(void) {
	expect("CPUID: XSAVE and AVX", features() & (XSAVE | AVX), XSAVE | AVX);
	if (failures) return;
	turn_on();
	u32 low, high;
	asm volatile("rdtsc" : "=a"(low), "=d"(high));
	sum(low << 4 | 3);
	save();
}
