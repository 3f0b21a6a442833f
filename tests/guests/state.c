/* State that is a guest's own while another guest runs: CR2 between a page fault and its handler, vector and FPU registers,
 * debug registers, the MSRs of SYSENTER and of long mode, and R8 to R15. First it is preempted wherever it is; then it and its neighbour, the same
 * program under another name, take turns with each tick of the timer. */
#include "guest.h"

enum { FAULTS = 1000000, CHECKED = 1024, ROUNDS = 500, BURST = 100, NOWHERE = 0xc0000000 };

static u32 salt, done;
volatile u32 expected, other, lost;
extern u8 page_fault[];
/* The handler waits before it reads CR2, so that a preemption often comes in between. */
asm("page_fault:\n"
    "	push " AX "\n"
    "	push " CX "\n"
    "	mov $8, %ecx\n"
    "1:	loop 1b\n"
    "	mov %cr2, " AX "\n"
    "	cmp %eax, expected\n"
    "	je 2f\n"
    "	mov %eax, other\n"
    "	incl lost\n"
    "2:	mov resume, %eax\n"
    "	mov " AX ", 3*" WORD "(" SP ")\n"
    "	pop " CX "\n"
    "	pop " AX "\n"
    "	add $" WORD ", " SP "\n"
    "	" IRET "\n");

/* Large pages, SSE and paging; no emulation of the FPU. */
#ifdef __x86_64__

static void enable(void) {
	DIRECTORY[NOWHERE >> 21] = DIRECTORY[(NOWHERE >> 21) + 1] = 0;
	asm volatile("mov %%cr4, %%rax; or $0x210, %%rax; mov %%rax, %%cr4; mov %%cr3, %%rax; mov %%rax, %%cr3;"
		"mov %%cr0, %%rax; and $~0xc, %%rax; or $2, %%rax; mov %%rax, %%cr0" : : : "rax", "memory");
	set_gate(PF, page_fault, 0x8e);
}

#else

static u32 directory[1024] __attribute__((aligned(4096)));

static void enable(void) {
	for (u32 at = 0; at < NOWHERE >> 22; at++) directory[at] = at << 22 | 0x83;
	asm volatile("mov %%cr4, %%eax; or $0x210, %%eax; mov %%eax, %%cr4; mov %0, %%cr3;"
		"mov %%cr0, %%eax; and $~0xc, %%eax; or $0x80000002, %%eax; mov %%eax, %%cr0" : : "r"(directory) : "eax", "memory");
	set_gate(PF, page_fault, 0x8e);
}

#endif

/* Those of SYSENTER, and of long mode the bases of FS, GS and SWAPGS, and STAR, LSTAR, FMASK. */
static const u32 msrs[] = {
	0x174, 0x175, 0x176,
#ifdef __x86_64__
	0xc0000100, 0xc0000101, 0xc0000102, 0xc0000081, 0xc0000082, 0xc0000084,
#endif
};

/* All of 64 bits are addresses in the upper half, but the one of SYSENTER's selector and the one of flags. */
static u32 upper(u32 i) { return msrs[i] >= 0xc0000081 && msrs[i] <= 0xc0000102 && msrs[i] != 0xc0000084 ? 0xffff8000 + i : 0; }

/* R8 to R15 for as long as it takes to be preempted. */
static void check_registers(void) {
#ifdef __x86_64__
	u64 differences;
	asm volatile("mov %1, %%r8; lea 1(%%r8), %%r9; lea 1(%%r9), %%r10; lea 1(%%r10), %%r11; lea 1(%%r11), %%r12;"
		"lea 1(%%r12), %%r13; lea 1(%%r13), %%r14; lea 1(%%r14), %%r15; mov $2000, %%ecx\n1:	loop 1b\n\t"
		"mov %1, %0; sub %%r8, %0; lea -1(%%r9), %%r9; sub %1, %%r9; or %%r9, %0; lea -2(%%r10), %%r10; sub %1, %%r10; or %%r10, %0;"
		"lea -3(%%r11), %%r11; sub %1, %%r11; or %%r11, %0; lea -4(%%r12), %%r12; sub %1, %%r12; or %%r12, %0;"
		"lea -5(%%r13), %%r13; sub %1, %%r13; or %%r13, %0; lea -6(%%r14), %%r14; sub %1, %%r14; or %%r14, %0;"
		"lea -7(%%r15), %%r15; sub %1, %%r15; or %%r15, %0"
		: "=&r"(differences) : "r"((u64)salt << 24) : "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc");
	expect("differences in R8 to R15", differences, 0);
#endif
}

static void set(void) {
	u32 low, high;
	asm volatile("rdtsc" : "=a"(low), "=d"(high));
	salt = low << 6 | 4;
	asm volatile("fninit; fldz; movd %0, %%xmm1; pshufd $0, %%xmm1, %%xmm1; pxor %%xmm0, %%xmm0; movdqa %%xmm1, %%xmm7" : : "r"(salt));
	asm volatile("mov %0, %%dr0; mov %1, %%dr3" : : "r"((uword)salt), "r"((uword)~salt));
	for (u32 i = 0; i < sizeof msrs / 4; i++) asm volatile("wrmsr" : : "c"(msrs[i]), "a"(salt + i), "d"(upper(i)));
}

static void check(void) {
	u32 lanes[4], kept[4], count, low, high;
	uword dr0, dr3;
	asm volatile("movdqu %%xmm0, %0; movdqu %%xmm7, %1; fistl %2" : "=m"(lanes), "=m"(kept), "=m"(count));
	asm volatile("mov %%dr0, %0; mov %%dr3, %1" : "=r"(dr0), "=r"(dr3));
	for (u32 lane = 0; lane < 4; lane++) {
		expect("a sum in a vector register", lanes[lane], salt * done);
		expect("a vector register", kept[lane], salt);
	}
	expect("a count in the FPU", count, done);
	expect("dr0", dr0, salt);
	expect("dr3", dr3, ~salt);
	for (u32 i = 0; i < sizeof msrs / 4; i++) {
		asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msrs[i]));
		expect("an MSR", low, salt + i);
		expect("the upper half of an MSR", high, upper(i));
	}
	check_registers();
}

static void take_one(void) {
	expected = NOWHERE + ((salt + done * 64) & 0x3fffff);
	asm volatile("movl $1f, resume\n\tmovl %%eax, (%0)\n1:\tpaddd %%xmm1, %%xmm0\n\tfld1\n\tfaddp" : : "r"((uword)expected) : "memory");
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
