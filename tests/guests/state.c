/* State that is a guest's own while another guest runs: CR2 between a page fault and its handler, vector and FPU registers,
 * debug registers, and the MSRs of SYSENTER. First it is preempted wherever it is; then it and its neighbour, the same
 * program under another name, take turns with each tick of the timer. */
#include "guest.h"

enum { FAULTS = 1000000, CHECKED = 1024, ROUNDS = 500, BURST = 100, NOWHERE = 0xc0000000, SYSENTER_EIP = 0x176 };

static u32 directory[1024] __attribute__((aligned(4096)));
static u32 salt, done;
volatile u32 expected, other, lost;
extern u8 page_fault[];
/* The handler waits before it reads CR2, so that a preemption often comes in between. */
asm("page_fault:\n"
    "	push %eax\n"
    "	push %ecx\n"
    "	mov $8, %ecx\n"
    "1:	loop 1b\n"
    "	mov %cr2, %eax\n"
    "	cmp %eax, expected\n"
    "	je 2f\n"
    "	mov %eax, other\n"
    "	incl lost\n"
    "2:	mov resume, %eax\n"
    "	mov %eax, 12(%esp)\n"
    "	pop %ecx\n"
    "	pop %eax\n"
    "	add $4, %esp\n"
    "	iret\n");

static void enable(void) {
	for (u32 at = 0; at < NOWHERE >> 22; at++) directory[at] = at << 22 | 0x83;
	/* Large pages and SSE; no emulation of the FPU; paging. */
	asm volatile("mov %%cr4, %%eax; or $0x210, %%eax; mov %%eax, %%cr4; mov %0, %%cr3;"
		"mov %%cr0, %%eax; and $~0xc, %%eax; or $0x80000002, %%eax; mov %%eax, %%cr0" : : "r"(directory) : "eax", "memory");
	idt[PF] = gate(page_fault, 0x8e);
}

static void set(void) {
	u32 low, high;
	asm volatile("rdtsc" : "=a"(low), "=d"(high));
	salt = low << 6 | 4;
	asm volatile("fninit; fldz; movd %0, %%xmm1; pshufd $0, %%xmm1, %%xmm1; pxor %%xmm0, %%xmm0; movdqa %%xmm1, %%xmm7" : : "r"(salt));
	asm volatile("mov %0, %%dr0; mov %1, %%dr3" : : "r"(salt), "r"(~salt));
	asm volatile("wrmsr" : : "c"(SYSENTER_EIP), "a"(salt), "d"(0));
}

static void check(void) {
	u32 lanes[4], kept[4], count, dr0, dr3, eip, high;
	asm volatile("movdqu %%xmm0, %0; movdqu %%xmm7, %1; fistl %2" : "=m"(lanes), "=m"(kept), "=m"(count));
	asm volatile("mov %%dr0, %0; mov %%dr3, %1" : "=r"(dr0), "=r"(dr3));
	asm volatile("rdmsr" : "=a"(eip), "=d"(high) : "c"(SYSENTER_EIP));
	for (u32 lane = 0; lane < 4; lane++) {
		expect("a sum in a vector register", lanes[lane], salt * done);
		expect("a vector register", kept[lane], salt);
	}
	expect("a count in the FPU", count, done);
	expect("dr0", dr0, salt);
	expect("dr3", dr3, ~salt);
	expect("the MSR of SYSENTER's EIP", eip, salt);
}

static void take_one(void) {
	expected = NOWHERE + ((salt + done * 64) & 0x3fffff);
	asm volatile("movl $1f, resume\n\tmovl %%eax, (%0)\n1:\tpaddd %%xmm1, %%xmm0\n\tfld1\n\tfaddp" : : "r"(expected) : "memory");
	if (++done % CHECKED == 0) check();
}

static void guest(void) {
	enable();
	set();
	while (done < FAULTS) take_one();
	start_timer();
	/* A tick each millisecond. */
	out8(0x40, 1193 & 0xff);
	out8(0x40, 1193 >> 8);
	while (ticks < ROUNDS) {
		for (u32 n = 0; n < BURST; n++) take_one();
		asm volatile("sti; hlt; cli" : : : "memory");
	}
	check();
	expect("CR2, of which another value was seen", other, 0);
	expect("how often", lost, 0);
	FACT("faults", done);
}
