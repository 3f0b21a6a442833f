/* Instructions that no emulator knows, with an operand where there is no RAM: of the FPU, of MMX and SSE, of BMI, division,
 * the stack. They read ones, their writes vanish, their exceptions come as they should, and so does the trap of a single
 * step. All of it without paging, with 32-bit paging, with PAE, and at privilege level 3. */
#include "guest.h"

enum { NOWHERE = 0xe0000000, ONES = 0xffffffff, DE = 0, BR = 5, XM = 19, RAM_END = 0x400000 };
#define AT "0xe0000000"

u8 bytes[16] __attribute__((aligned(16)));
u32 word;

static u32 words_of_ones(void) {
	u32 count = 0;
	for (u32 i = 0; i < 4; i++) count += ((u32 *)bytes)[i] == ONES;
	return count;
}

/* An instruction that loads XMM0; what it leaves there has to be ones. */
#define LOADS(instruction)                                                  \
	do {                                                                    \
		for (u32 i = 0; i < 16; i++) bytes[i] = 0;                          \
		asm volatile("movups bytes, %%xmm0" : : : "memory");                \
		expect(instruction, PROBE(instruction, NOTHING), NONE);             \
		asm volatile("movups %%xmm0, bytes" : : : "memory");                \
		expect("words of ones after " instruction, words_of_ones(), 4);     \
	} while (0)
#define GIVES(instruction, vector) expect(instruction, PROBE(instruction, NOTHING), vector)
/* What an instruction stores in `word`. */
#define LEAVES(instruction, value)                                          \
	do {                                                                    \
		word = 0x12345678;                                                  \
		GIVES(instruction, NONE);                                           \
		expect("result of " instruction, word, value);                      \
	} while (0)

u32 mxcsr;
static void set_mxcsr(u32 value) {
	mxcsr = value;
	asm volatile("ldmxcsr mxcsr" : : : "memory");
}

static void fpu(void) {
	asm volatile("fninit");
	LEAVES("fildl " AT "; fistpl word", ONES);
	LEAVES("fildll " AT "; fistpl word", ONES);
	LEAVES("flds " AT "; fstps word", ONES);
	LEAVES("fldl 0xe0000ffc; fstp %%st(0)", 0x12345678);
	GIVES("fld1; fstps " AT, NONE);
	GIVES("fldpi; fstpt 0xe0000ffb", NONE);
	GIVES("fnstcw " AT, NONE);
	GIVES("fnstenv " AT, NONE);
	GIVES("fnsave " AT, NONE);
	asm volatile("fninit");
	LEAVES("movq " AT ", %%mm0; movd %%mm0, word", ONES);
	GIVES("movq %%mm0, " AT, NONE);
	asm volatile("emms");
}

static void vectors(void) {
	set_mxcsr(0x1f80);
	LOADS("movaps " AT ", %%xmm0");
	LOADS("movups 0xe0000005, %%xmm0");
	LOADS("movdqa " AT ", %%xmm0");
	LOADS("movdqu 0xe0000ff9, %%xmm0");
	LOADS("movdqu 0xe03ffff9, %%xmm0");
	LOADS("por " AT ", %%xmm0");
	GIVES("movaps %%xmm0, " AT, NONE);
	GIVES("movups %%xmm0, 0xe0000ff1", NONE);
	GIVES("movntps %%xmm0, " AT, NONE);
	GIVES("movss %%xmm0, " AT, NONE);
	LOADS("movaps " AT ", %%xmm0");
	GIVES("stmxcsr " AT, NONE);
	GIVES("fxsave " AT, NONE);
	/* Over the end of RAM, both ways. */
	((u32 *)RAM_END)[-1] = 0x1234;
	((u32 *)RAM_END)[-2] = 0x5678;
	asm volatile("movups 0x3ffff8, %%xmm0; movups %%xmm0, bytes" : : : "memory");
	expect("words of ones at the end of RAM", words_of_ones(), 2);
	expect("the last word of RAM", ((u32 *)bytes)[1], 0x1234);
	asm volatile("xorps %%xmm0, %%xmm0; movups %%xmm0, 0x3ffff8" : : : "memory");
	expect("the last word of RAM, written", ((u32 *)RAM_END)[-1], 0);
}

static void exceptions(void) {
	GIVES("movaps 0xe0000008, %%xmm0", GP);
	GIVES("ldmxcsr " AT, GP);
	GIVES("fxrstor " AT, GP);
	set_mxcsr(0x1f00);
	GIVES("comiss " AT ", %%xmm0", XM);
	set_mxcsr(0x1f80);
	GIVES("comiss " AT ", %%xmm0", NONE);
	GIVES("xor %%edx, %%edx; mov $5, %%eax; divl " AT, NONE);
	GIVES("mov $-1, %%edx; divl " AT, DE);
	GIVES("mov $5, %%eax; bound %%eax, " AT, BR);
	GIVES("ud2", UD);
	GIVES(".byte 0xf0; fildl " AT, UD);
}

static void others(void) {
	LEAVES("xor %%edx, %%edx; mov $5, %%eax; divl " AT "; mov %%edx, word", 5);
	LEAVES("mov $-1, %%edx; mov $-7, %%eax; idivl " AT "; mov %%eax, word", 7);
	LEAVES("mov $" AT ", %%ebx; xor %%eax, %%eax; xlat; mov %%eax, word", 0xff);
	u32 b;
	asm volatile("cpuid" : "=b"(b) : "a"(7), "c"(0) : "edx");
	if (b & 1 << 3) {
		LEAVES("mov $0xff, %%eax; andn " AT ", %%eax, %%ecx; mov %%ecx, word", 0xffffff00);
		LEAVES("tzcntl " AT ", %%eax; mov %%eax, word", 0);
		LEAVES("blsrl " AT ", %%eax; mov %%eax, word", 0xfffffffe);
	}
	if (b & 1 << 8) LEAVES("rorx $8, " AT ", %%eax; mov %%eax, word", ONES);
	LEAVES("mov %%esp, %%ebx; mov $0xe0000004, %%esp; push %%eax; pop %%eax; mov %%ebx, %%esp; mov %%eax, word", ONES);
	LEAVES("mov %%esp, %%ebx; mov $0xe0001004, %%esp; push $5; call 2f; 2: mov %%esp, word; mov %%ebx, %%esp", 0xe0000ffc);
}

static void all(void) {
	fpu();
	vectors();
	others();
}

volatile u32 traps, reasons;
extern u8 trapped[];
asm("trapped:\n"
    "	push %eax\n"
    "	incl traps\n"
    "	mov %dr6, %eax\n"
    "	or %eax, reasons\n"
    "	mov $0xffff0ff0, %eax\n"
    "	mov %eax, %dr6\n"
    "	pop %eax\n"
    "	iret\n");

/* The trap flag is on from the instruction after the first POPF to the second POPF. */
#define STEP_OVER(count, instructions)                                      \
	do {                                                                    \
		traps = reasons = 0;                                                \
		asm volatile("pushf\n\torl $0x100, (%%esp)\n\tpopf\n\t" instructions \
			"\n\tpushf\n\tandl $~0x100, (%%esp)\n\tpopf" NOTHING);          \
		expect("traps of " instructions, traps, count + 3);                 \
		expect("reasons of " instructions, reasons, 0xffff4ff0);            \
	} while (0)

/* Steps and breakpoints of the guest's own; and none that are not. */
static void debugger(void) {
	u64 usual = idt[DB];
	set_gate(DB, trapped, 0x8e);
	STEP_OVER(2, "movups " AT ", %%xmm0; nop");
	STEP_OVER(3, "fildl " AT "; fstp %%st(0); movups %%xmm0, 0xe0000ff8");
	STEP_OVER(3, "mov %%ss, %%eax; mov %%eax, %%ss; movups " AT ", %%xmm0; nop");
	static volatile u32 probe;
	u32 dr6 = 0xffff4ff0, seen;
	traps = 0;
	asm volatile("mov %1, %%dr6; movups " AT ", %%xmm0; mov %%dr6, %0" : "=r"(seen) : "r"(dr6));
	expect("traps without a debugger", traps, 0);
	expect("dr6 after an instruction without a debugger", seen, dr6);
	/* Some kernels switch no debug registers between guests; then a VMM lets none take effect (see breakpoints.c). */
	asm volatile("mov %0, %%dr0; mov %1, %%dr7" : : "r"(&probe), "r"(0xd0401));
	probe = 0;
	asm volatile("mov %0, %%dr7" : : "r"(0x400));
	if (!traps) {
		idt[DB] = usual;
		return;
	}
	traps = 0;
	/* Four bytes at NOWHERE, for reading and writing. */
	asm volatile("mov %0, %%dr6; mov %1, %%dr0; mov %2, %%dr7" : : "r"(0xffff0ff0), "r"(NOWHERE), "r"(0xf0401));
	reasons = 0;
	asm volatile("movups " AT ", %%xmm0; nop" : : : "memory");
	asm volatile("mov %0, %%dr7" : : "r"(0x400));
	expect("traps of a breakpoint", traps, 1);
	expect("reasons of a breakpoint", reasons, 0xffff0ff1);
	idt[DB] = usual;
}

/* Interrupts come between instructions that the VMM does in two halves. */
static void interrupts(void) {
	u32 count = 0;
	ticks = 0;
	start_timer();
	asm volatile("sti");
	while (ticks < 3 && count < 1000000) {
		asm volatile("movups " AT ", %%xmm0" : : : "memory");
		count++;
	}
	asm volatile("cli");
	expect("ticks", ticks, 3);
}

static u32 directory[1024] __attribute__((aligned(4096)));
static u64 pointers[4] __attribute__((aligned(4096))), directories[4][512] __attribute__((aligned(4096)));
static u32 table[1024] __attribute__((aligned(4096)));

/* Everything at its own address, but for a page beside the operand's. */
static void page(u32 root, u32 cr4) {
	asm volatile("mov %%cr4, %%eax; or %1, %%eax; mov %%eax, %%cr4; mov %0, %%cr3;"
		"mov %%cr0, %%eax; or $0x80010000, %%eax; mov %%eax, %%cr0" : : "r"(root), "r"(cr4) : "eax", "memory");
}

static void stop_paging(void) {
	asm volatile("mov %%cr0, %%eax; and $0x7fffffff, %%eax; mov %%eax, %%cr0" : : : "eax", "memory");
}

static void guest(void) {
	asm volatile("mov %%cr0, %%eax\n\tand $~12, %%eax\n\tmov %%eax, %%cr0\n\t"
		"mov %%cr4, %%eax\n\tor $0x600, %%eax\n\tmov %%eax, %%cr4\n\tfninit" : : : "eax");
	all();
	exceptions();
	debugger();
	interrupts();
	for (u32 i = 0; i < 1024; i++) directory[i] = i << 22 | 0xe7;
	page((u32)directory, 0x10);
	all();
	exceptions();
	/* With IOPL 3, what is wrong at level 3 can be printed. */
	asm volatile("pushf; orl $0x3000, (%%esp); popf" : : : "memory", "cc");
	in_user_mode(all);
	/* A page that is not there, behind one without RAM: the exception is not the processor's own, but there is one. */
	for (u32 i = 0; i < 1024; i++) table[i] = NOWHERE | i << 12 | 7;
	table[1] = 0;
	table[3] = 0x300005;
	directory[NOWHERE >> 22] = (u32)table | 7;
	asm volatile("mov %%cr3, %%eax; mov %%eax, %%cr3" : : : "eax", "memory");
	GIVES("movups 0xe0000ff8, %%xmm0", GP);
	/* Behind one, RAM that can be read, and not be written. */
	*(volatile u32 *)0x300000 = 0x1234;
	asm volatile("movups 0xe0002ff4, %%xmm0; movups %%xmm0, bytes" : : : "memory");
	expect("a word behind a page without RAM", ((u32 *)bytes)[3], 0x1234);
	GIVES("xorps %%xmm0, %%xmm0; movups %%xmm0, 0xe0002ff4", GP);
	expect("a word that is not to be written", *(volatile u32 *)0x300000, 0x1234);
	stop_paging();
	for (u32 i = 0; i < 4; i++) pointers[i] = (u32)directories[i] | 1;
	for (u32 i = 0; i < 2048; i++) directories[i / 512][i % 512] = (u64)i << 21 | 0xe7;
	page((u32)pointers, 0x20);
	all();
	in_user_mode(all);
	exceptions();
	stop_paging();
	all();
}
