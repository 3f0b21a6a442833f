/* Instructions that no emulator knows, with an operand where there is no RAM: of the FPU, of MMX and SSE, of BMI, division,
 * the stack. They read ones, their writes vanish, their exceptions come as they should, and so does the trap of a single
 * step. All of it at privilege levels 0 and 3: without paging, with 32-bit paging and with PAE; or in long mode, where the
 * operands are in the upper half of the address space as well. */
#include "guest.h"

enum { NOWHERE = 0xe0000000, ONES = 0xffffffff, DE = 0, BR = 5, XM = 19, RAM_END = 0x400000 };
/* The same as a displacement, which 64-bit code extends by its sign: there it is another address of the same memory. */
asm(".set nowhere, -0x20000000\n");

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
	LEAVES("fildl nowhere; fistpl word", ONES);
	LEAVES("fildll nowhere; fistpl word", ONES);
	LEAVES("flds nowhere; fstps word", ONES);
	LEAVES("fldl nowhere + 0xffc; fstp %%st(0)", 0x12345678);
	GIVES("fld1; fstps nowhere", NONE);
	GIVES("fldpi; fstpt nowhere + 0xffb", NONE);
	GIVES("fnstcw nowhere", NONE);
	GIVES("fnstenv nowhere", NONE);
	GIVES("fnsave nowhere", NONE);
	asm volatile("fninit");
	LEAVES("movq nowhere, %%mm0; movd %%mm0, word", ONES);
	GIVES("movq %%mm0, nowhere", NONE);
	asm volatile("emms");
}

static void vectors(void) {
	set_mxcsr(0x1f80);
	LOADS("movaps nowhere, %%xmm0");
	LOADS("movups nowhere + 5, %%xmm0");
	LOADS("movdqa nowhere, %%xmm0");
	LOADS("movdqu nowhere + 0xff9, %%xmm0");
	LOADS("movdqu nowhere + 0x3ffff9, %%xmm0");
	LOADS("por nowhere, %%xmm0");
	GIVES("movaps %%xmm0, nowhere", NONE);
	GIVES("movups %%xmm0, nowhere + 0xff1", NONE);
	GIVES("movntps %%xmm0, nowhere", NONE);
	GIVES("movss %%xmm0, nowhere", NONE);
	LOADS("movaps nowhere, %%xmm0");
	GIVES("stmxcsr nowhere", NONE);
	GIVES("fxsave nowhere", NONE);
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
	GIVES("movaps nowhere + 8, %%xmm0", GP);
	GIVES("ldmxcsr nowhere", GP);
	GIVES("fxrstor nowhere", GP);
	set_mxcsr(0x1f00);
	GIVES("comiss nowhere, %%xmm0", XM);
	set_mxcsr(0x1f80);
	GIVES("comiss nowhere, %%xmm0", NONE);
	GIVES("xor %%edx, %%edx; mov $5, %%eax; divl nowhere", NONE);
	GIVES("mov $-1, %%edx; divl nowhere", DE);
#ifdef __i386__
	GIVES("mov $5, %%eax; bound %%eax, nowhere", BR);
#endif
	GIVES("ud2", UD);
	GIVES(".byte 0xf0; fildl nowhere", UD);
}

static void others(void) {
	LEAVES("xor %%edx, %%edx; mov $5, %%eax; divl nowhere; mov %%edx, word", 5);
	LEAVES("mov $-1, %%edx; mov $-7, %%eax; idivl nowhere; mov %%eax, word", 7);
	LEAVES("mov $0xe0000000, %%ebx; xor %%eax, %%eax; xlat; mov %%eax, word", 0xff);
	u32 b;
	asm volatile("cpuid" : "=b"(b) : "a"(7), "c"(0) : "edx");
	if (b & 1 << 3) {
		LEAVES("mov $0xff, %%eax; andn nowhere, %%eax, %%ecx; mov %%ecx, word", 0xffffff00);
		LEAVES("tzcntl nowhere, %%eax; mov %%eax, word", 0);
		LEAVES("blsrl nowhere, %%eax; mov %%eax, word", 0xfffffffe);
	}
	if (b & 1 << 8) LEAVES("rorx $8, nowhere, %%eax; mov %%eax, word", ONES);
	LEAVES("mov %%esp, %%ebx; mov $0xe0000008, %%esp; push %" AX "; pop %" AX "; mov %%ebx, %%esp; mov %%eax, word", ONES);
	LEAVES("mov %%esp, %%ebx; mov $0xe0001004, %%esp; push $5; call 2f; 2: mov %%esp, word; mov %%ebx, %%esp",
		0xe0001004 - 2 * sizeof(uword));
}

#ifdef __x86_64__
/* With a REX prefix: registers and operands of 64 bits, and addresses that only 64-bit code has. */
static void wide(void) {
	LOADS("movups nowhere(%%rip), %%xmm0");
	LOADS("movups nowhere + 0xff9(%%rip), %%xmm9; movaps %%xmm9, %%xmm0");
	LOADS("mov $nowhere, %%rcx; mov $0x40, %%eax; movdqu 0x20(%%rcx,%%rax,2), %%xmm0");
	GIVES("movups %%xmm15, nowhere(%%rip)", NONE);
	GIVES("fxsave64 nowhere", NONE);
	LEAVES("xorps %%xmm12, %%xmm12; movq nowhere, %%xmm12; movq %%xmm12, %%rax; shr $32, %%rax; mov %%eax, word", ONES);
	LEAVES("mov $1, %%eax; cvtsi2sdq nowhere, %%xmm0; cvtsd2si %%xmm0, %%rax; mov %%eax, word", ONES);
	LEAVES("xor %%edx, %%edx; mov $5, %%eax; divq nowhere; mov %%edx, word", 5);
	LEAVES("mov $-1, %%rdx; mov $-7, %%rax; idivq nowhere; mov %%eax, word", 7);
	LEAVES("mov $-1, %%rax; mov %%rax, %%rdx; lock cmpxchg16b nowhere; sete %%al; movzbl %%al, %%eax; mov %%eax, word", 1);
	LEAVES("xor %%eax, %%eax; cmpxchg16b nowhere; shr $32, %%rdx; mov %%edx, word", ONES);
	GIVES("cmpxchg16b nowhere + 8", GP);
	GIVES("mov $-1, %%rdx; divq nowhere", DE);
	u32 b;
	asm volatile("cpuid" : "=b"(b) : "a"(7), "c"(0) : "edx");
	if (b & 1 << 3) LEAVES("mov $0xff, %%eax; andn nowhere, %%rax, %%rcx; shr $32, %%rcx; mov %%ecx, word", ONES);
}
#else
static void wide(void) {}
#endif

static void all(void) {
	fpu();
	vectors();
	others();
	wide();
}

volatile u32 traps, reasons;
extern u8 trapped[];
asm("trapped:\n"
    "	push " AX "\n"
    "	incl traps\n"
    "	mov %dr6, " AX "\n"
    "	or %eax, reasons\n"
    "	mov $0xffff0ff0, %eax\n"
    "	mov " AX ", %dr6\n"
    "	pop " AX "\n"
    "	" IRET "\n");

/* The trap flag is on from the instruction after the first POPF to the second POPF. */
#define STEP_OVER(count, instructions)                                      \
	do {                                                                    \
		traps = reasons = 0;                                                \
		asm volatile("pushf\n\torl $0x100, (" R(sp) ")\n\tpopf\n\t" instructions \
			"\n\tpushf\n\tandl $~0x100, (" R(sp) ")\n\tpopf" NOTHING);        \
		expect("traps of " instructions, traps, count + 3);                 \
		expect("reasons of " instructions, reasons, 0xffff4ff0);            \
	} while (0)

/* Steps and breakpoints of the guest's own; and none that are not. */
static void debugger(void) {
	u64 usual = idt[DB];
	set_gate(DB, trapped, 0x8e);
	STEP_OVER(2, "movups nowhere, %%xmm0; nop");
	STEP_OVER(3, "fildl nowhere; fstp %%st(0); movups %%xmm0, nowhere + 0xff8");
	STEP_OVER(3, "mov %%ss, %%eax; mov %%eax, %%ss; movups nowhere, %%xmm0; nop");
	static volatile u32 probe;
	uword dr6 = 0xffff4ff0, seen;
	traps = 0;
	asm volatile("mov %1, %%dr6; movups nowhere, %%xmm0; mov %%dr6, %0" : "=r"(seen) : "r"(dr6));
	expect("traps without a debugger", traps, 0);
	expect("dr6 after an instruction without a debugger", seen, dr6);
	/* Some kernels switch no debug registers between guests; then a VMM lets none take effect (see breakpoints.c). */
	asm volatile("mov %0, %%dr0; mov %1, %%dr7" : : "r"(&probe), "r"((uword)0xd0401));
	probe = 0;
	asm volatile("mov %0, %%dr7" : : "r"((uword)0x400));
	if (!traps) {
		idt[DB] = usual;
		return;
	}
	traps = 0;
	/* Four bytes at `nowhere`, for reading and writing. */
	asm volatile("mov %0, %%dr6; mov %1, %%dr0; mov %2, %%dr7"
		: : "r"((uword)0xffff0ff0), "r"((uword)-0x20000000l), "r"((uword)0xf0401));
	reasons = 0;
	asm volatile("movups nowhere, %%xmm0; nop" : : : "memory");
	asm volatile("mov %0, %%dr7" : : "r"((uword)0x400));
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
		asm volatile("movups nowhere, %%xmm0" : : : "memory");
		count++;
	}
	asm volatile("cli");
	/* Beside other guests, some may come together. */
	expect("at least three ticks", ticks >= 3, 1);
}

/* The FPU and SSE, without which all of this is #NM or #UD. */
static void start_vectors(void) {
	asm volatile("mov %%cr0, " R(ax) "\n\tand $~12, " R(ax) "\n\tmov " R(ax) ", %%cr0\n\t"
		"mov %%cr4, " R(ax) "\n\tor $0x600, " R(ax) "\n\tmov " R(ax) ", %%cr4\n\tfninit" : : : "eax");
}

/* With IOPL 3, what is wrong at level 3 can be printed. */
static void at_level_3(void) {
	asm volatile("pushf; orl $0x3000, (" R(sp) "); popf" : : : "memory", "cc");
	in_user_mode(all);
}

static uword table[4096 / sizeof(uword)] __attribute__((aligned(4096)));

/* What a directory has for small pages from NOWHERE on: one that is not there, behind one without RAM, and one with RAM that can
 * be read and not be written. */
static uword small_pages(void) {
	for (u32 i = 0; i < sizeof table / sizeof *table; i++) table[i] = NOWHERE | i << 12 | 7;
	table[1] = 0;
	table[3] = 0x300005;
	return (uword)table | 7;
}

static void holes(void) {
	asm volatile("mov %%cr3, " R(ax) "; mov " R(ax) ", %%cr3" : : : "eax", "memory");
	/* The exception is not the processor's own, but there is one. */
	GIVES("movups nowhere + 0xff8, %%xmm0", GP);
	*(volatile u32 *)0x300000 = 0x1234;
	asm volatile("movups nowhere + 0x2ff4, %%xmm0; movups %%xmm0, bytes" : : : "memory");
	expect("a word behind a page without RAM", ((u32 *)bytes)[3], 0x1234);
	GIVES("xorps %%xmm0, %%xmm0; movups %%xmm0, nowhere + 0x2ff4", GP);
	expect("a word that is not to be written", *(volatile u32 *)0x300000, 0x1234);
}

#ifdef __x86_64__

static u64 upper[512] __attribute__((aligned(4096)));

static void guest(void) {
	upper[511] = PDPT[3];
	PML4[511] = (u64)upper | 7;
	start_vectors();
	all();
	exceptions();
	debugger();
	interrupts();
	at_level_3();
	DIRECTORY[NOWHERE >> 21] = small_pages();
	/* WP, since what is read-only is so for level 0. */
	asm volatile("mov %%cr0, %%rax; bts $16, %%rax; mov %%rax, %%cr0" : : : "rax", "memory");
	holes();
}

#else

static u32 directory[1024] __attribute__((aligned(4096)));
static u64 pointers[4] __attribute__((aligned(4096))), directories[4][512] __attribute__((aligned(4096)));

/* Everything at its own address. */
static void page(u32 root, u32 cr4) {
	asm volatile("mov %%cr4, %%eax; or %1, %%eax; mov %%eax, %%cr4; mov %0, %%cr3;"
		"mov %%cr0, %%eax; or $0x80010000, %%eax; mov %%eax, %%cr0" : : "r"(root), "r"(cr4) : "eax", "memory");
}

static void stop_paging(void) {
	asm volatile("mov %%cr0, %%eax; and $0x7fffffff, %%eax; mov %%eax, %%cr0" : : : "eax", "memory");
}

static void guest(void) {
	start_vectors();
	all();
	exceptions();
	debugger();
	interrupts();
	for (u32 i = 0; i < 1024; i++) directory[i] = i << 22 | 0xe7;
	page((u32)directory, 0x10);
	all();
	exceptions();
	at_level_3();
	directory[NOWHERE >> 22] = small_pages();
	holes();
	stop_paging();
	for (u32 i = 0; i < 4; i++) pointers[i] = (u32)directories[i] | 1;
	for (u32 i = 0; i < 2048; i++) directories[i / 512][i % 512] = (u64)i << 21 | 0xe7;
	page((u32)pointers, 0x20);
	all();
	at_level_3();
	exceptions();
	stop_paging();
	all();
}

#endif
