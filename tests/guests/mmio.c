/* Addresses without RAM, by every MOV and every other form that Linux uses on device memory: they read all ones, and
 * writes vanish. Forms that no driver uses are #UD, in the guest. In 64-bit code also with REX, eight bytes and RIP. */
#include "guest.h"

enum { NOWHERE = 0xe0000004, ONES = 0xffffffff, KEEP = 0x12345678 };
/* MOV between the accumulator and an address in the instruction. */
#ifdef __x86_64__
#define ABSOLUTE "movabs"
#else
#define ABSOLUTE "mov"
#endif

/* EAX after an instruction, where it was KEEP before; EDI is the address. */
#define EAX_AFTER(instruction)                                              \
	({                                                                      \
		u32 eax = KEEP;                                                     \
		uword ecx = 0, edi = NOWHERE;                                       \
		expect("vector of " instruction, PROBE(instruction,                 \
			: "+a"(eax), "+c"(ecx), "+D"(edi) : : "ebx", "edx", "memory", "cc"), NONE); \
		eax;                                                                \
	})
#define READS(instruction, value) expect(instruction, EAX_AFTER(instruction), (u32)(value))
#define WRITES(instruction) READS(instruction, KEEP)

static void moves(void) {
	READS("mov (" R(di) "), %%al", 0x123456ff);
	READS("mov (" R(di) "), %%ah", 0x1234ff78);
	READS("mov (" R(di) "), %%ax", 0x1234ffff);
	READS("mov (" R(di) "), %%eax", ONES);
	READS(ABSOLUTE " 0xe0000000, %%al", 0x123456ff);
	READS(ABSOLUTE " 0xe0000000, %%ax", 0x1234ffff);
	READS(ABSOLUTE " 0xe0000000, %%eax", ONES);
	READS("mov 8(" R(di) "," R(cx) ",4), %%eax", ONES);
	READS("movzbl (" R(di) "), %%eax", 0xff);
	READS("movzwl (" R(di) "), %%eax", 0xffff);
	READS("movzbw (" R(di) "), %%ax", 0x123400ff);
	READS("movsbl (" R(di) "), %%eax", ONES);
	READS("movswl (" R(di) "), %%eax", ONES);
	READS("movsbw (" R(di) "), %%ax", 0x1234ffff);
	READS("mov (" R(di) "), %%ebx; mov %%ebx, %%eax", ONES);
	WRITES("mov %%al, (" R(di) ")");
	WRITES("mov %%ah, (" R(di) ")");
	WRITES("mov %%ax, (" R(di) ")");
	WRITES("mov %%eax, (" R(di) ")");
	WRITES(ABSOLUTE " %%al, 0xe0000000");
	WRITES(ABSOLUTE " %%ax, 0xe0000000");
	WRITES(ABSOLUTE " %%eax, 0xe0000000");
	WRITES("movb $1, (" R(di) ")");
	WRITES("movw $0x1234, (" R(di) ")");
	WRITES("movl $0x12345678, (" R(di) ")");
	WRITES("movl $1, 0x1000(" R(di) ")");
}

static void arithmetic(void) {
	READS("andl (" R(di) "), %%eax", KEEP);
	READS("orl (" R(di) "), %%eax", ONES);
	READS("xorl (" R(di) "), %%eax", ~KEEP);
	READS("addl (" R(di) "), %%eax", KEEP - 1);
	READS("subl (" R(di) "), %%eax", KEEP + 1);
	WRITES("orl %%eax, (" R(di) ")");
	WRITES("andl $1, (" R(di) ")");
	WRITES("addb $1, (" R(di) ")");
	READS("testl $0x80000000, (" R(di) "); setnz %%al", 0x12345601);
	READS("cmpl $-1, (" R(di) "); sete %%al", 0x12345601);
	READS("cmpb $0, (" R(di) "); sete %%al", 0x12345600);
	READS("xchg %%eax, (" R(di) ")", ONES);
	READS("btl $5, (" R(di) "); setc %%al", 0x12345601);
	READS("lock btsl $5, (" R(di) "); setc %%al", 0x12345601);
	WRITES("lock incl (" R(di) ")");
	WRITES("notl (" R(di) ")");
	WRITES("shll $4, (" R(di) ")");
	WRITES("rolb %%cl, (" R(di) ")");
	WRITES("shrdl $3, %%eax, (" R(di) ")");
	READS("rcrl $1, (" R(di) "); setc %%al", 0x12345601);
	READS("mull (" R(di) ")", -KEEP);
	READS("imull $-3, (" R(di) "), %%eax", 3);
	READS("bsrl (" R(di) "), %%eax", 31);
	READS("bsfl (" R(di) "), %%eax", 0);
	READS("popcntl (" R(di) "), %%eax", 32);
	READS("test " R(di) ", " R(di) "; cmovnzl (" R(di) "), %%eax", ONES);
	WRITES("setnz (" R(di) ")");
	READS("lock cmpxchgl %%ecx, (" R(di) ")", ONES);
	READS("lock xaddl %%eax, (" R(di) ")", ONES);
}

static u8 buffer[512];

static u32 all(u8 byte, u32 from, u32 to) {
	u32 right = 1;
	for (u32 i = from; i < to; i++) right &= buffer[i] == byte;
	return right;
}

/* REP MOVS to RAM, from RAM, within nowhere, and STOS and LODS: more than the VMM does at one exit. */
static void strings(void) {
	uword esi = NOWHERE, edi = (uword)buffer, ecx = 100, eax = KEEP;
	asm volatile("rep movsl" : "+S"(esi), "+D"(edi), "+c"(ecx) : : "memory");
	expect("rep movsl from nowhere: bytes", all(0xff, 0, 400) & all(0, 400, 512), 1);
	expect("rep movsl from nowhere: esi", esi, NOWHERE + 400);
	expect("rep movsl from nowhere: edi", edi, (uword)buffer + 400);
	expect("rep movsl from nowhere: ecx", ecx, 0);
	esi = (uword)buffer, edi = NOWHERE, ecx = 511;
	asm volatile("rep movsb" : "+S"(esi), "+D"(edi), "+c"(ecx) : : "memory");
	expect("rep movsb to nowhere: esi", esi, (uword)buffer + 511);
	expect("rep movsb to nowhere: edi", edi, NOWHERE + 511);
	esi = 0xe0001000, edi = 0xe0002000, ecx = 333;
	asm volatile("rep movsw" : "+S"(esi), "+D"(edi), "+c"(ecx) : : "memory");
	expect("rep movsw nowhere: edi", edi, 0xe000229a);
	edi = NOWHERE, ecx = 333;
	asm volatile("rep stosl" : "+D"(edi), "+c"(ecx) : "a"(0) : "memory");
	expect("rep stosl: edi", edi, NOWHERE + 4 * 333);
	esi = NOWHERE;
	asm volatile("lodsw" : "+S"(esi), "+a"(eax));
	expect("lodsw: eax", eax, 0x1234ffff);
}

/* On memory of nobody and on the local APIC, which is a device. */
static void flushes(void) {
	static const uword at[] = {NOWHERE, 0xfee00020};
	for (u32 i = 0; i < 2; i++) {
		u32 zero = 0;
		expect("clflush", PROBE("clflush (%0)", : : "r"(at[i]) : "memory"), NONE);
		expect("prefetcht0", PROBE("prefetcht0 (%0)", : : "r"(at[i]) : "memory"), NONE);
		expect("movnti", PROBE("movnti %1, (%0)", : : "r"(at[i]), "r"(zero) : "memory"), NONE);
		expect("cmpxchg8b", PROBE("lock cmpxchg8b (" R(di) ")", : : "D"(at[i]), "a"(0), "b"(0), "c"(0), "d"(0) : "memory"), NONE);
		expect("movbe", PROBE("movbe (%0), %%eax", : : "r"(at[i]) : "eax", "memory"), NONE);
	}
	expect("movups from a device", PROBE("movups (%0), %%xmm0", : : "r"(at[1]) : "memory"), UD);
	expect("fnstcw to a device", PROBE("fnstcw (%0)", : : "r"(at[1]) : "memory"), UD);
}

#ifdef __x86_64__

/* The local APIC's version register, and that of the task priority; and an alias of everything in the upper half. */
#define VERSION 0xfee00030ull
#define PRIORITY 0xfee00080ull
#define UPPER 0xffff888000000000ull
#define LONG_KEEP 0x1122334455667788ull

/* RAX after an instruction, where it was LONG_KEEP before; RBX is the address, RCX and R9 the same, RDX and R12 are 1. */
#define RAX_AFTER(instruction, address)                                     \
	({                                                                      \
		u64 rax = LONG_KEEP, rbx = address, rdx = 1;                        \
		expect("vector of " instruction, PROBE("mov %%rbx, %%rcx; mov %%rbx, %%r9; mov %%rdx, %%r12; " instruction, \
			: "+a"(rax), "+b"(rbx), "+d"(rdx) : : "rcx", "rsi", "rdi", "r8", "r9", "r10", "r12", "r13", "r14", "r15", "memory", "cc"), NONE); \
		rax;                                                                \
	})
#define LONG_READS(instruction, value) expect(instruction, RAX_AFTER(instruction, NOWHERE - 4ull), value)
#define LONG_WRITES(instruction) LONG_READS(instruction, LONG_KEEP)
#define VERSION_READS(instruction, value, address) expect(instruction, RAX_AFTER(instruction, address), value)

static void long_moves(void) {
	LONG_READS("movb (%%rbx), %%al", LONG_KEEP | 0xff);
	LONG_READS("movw (%%rbx), %%ax", LONG_KEEP | 0xffff);
	LONG_READS("movl (%%rbx), %%eax", ONES);
	LONG_READS("movq (%%rbx), %%rax", ~0ull);
	LONG_READS("mov %%rax, %%rsi; movb (%%rbx), %%sil; mov %%rsi, %%rax", LONG_KEEP | 0xff);
	LONG_READS("mov %%rax, %%r10; movb (%%r9), %%r10b; mov %%r10, %%rax", LONG_KEEP | 0xff);
	LONG_READS("mov %%rax, %%r10; movw (%%r9), %%r10w; mov %%r10, %%rax", LONG_KEEP | 0xffff);
	LONG_READS("movl (%%r9), %%r10d; mov %%r10, %%rax", ONES);
	LONG_READS("movq 8(%%r9,%%r12,8), %%r10; mov %%r10, %%rax", ~0ull);
	LONG_READS("mov %%rbx, %%r13; movl (%%r13), %%eax", ONES);
	LONG_READS("mov %%rbx, %%r12; movl (%%r12), %%eax", ONES);
	LONG_READS("movl -0x1000(%%rbx,%%rdx,2), %%eax", ONES);
	LONG_READS("movzbl (%%rbx), %%eax", 0xff);
	LONG_READS("movzbq (%%rbx), %%rax", 0xff);
	LONG_READS("movzwq (%%r9), %%rax", 0xffff);
	LONG_READS("movsbq (%%rbx), %%rax", ~0ull);
	LONG_READS("movswq (%%rbx), %%rax", ~0ull);
	LONG_READS("movsbl (%%rbx), %%eax", ONES);
	LONG_READS("movslq (%%rbx), %%rax", ~0ull);
	LONG_READS("movabsq 0xe0000000, %%rax", ~0ull);
	LONG_READS("movabsl 0xffff8880e0000000, %%eax", ONES);
	LONG_WRITES("movq %%rax, (%%rbx)");
	LONG_WRITES("movq %%r12, (%%r9)");
	LONG_WRITES("movb %%r12b, (%%r9)");
	LONG_WRITES("movb %%dil, (%%rbx)");
	LONG_WRITES("movq $-5, (%%rbx)");
	LONG_WRITES("movabsq %%rax, 0xe0000000");
	LONG_WRITES("movnti %%rax, (%%rbx)");
	/* A register of a device, of 32 bits, by every way there. */
	u64 version = *(volatile u32 *)VERSION;
	expect("version", version & 0xff, 0x15);
	VERSION_READS("movl (%%rbx), %%eax", version, VERSION);
	VERSION_READS("movl (%%rbx), %%eax", version, UPPER + VERSION);
	VERSION_READS("movl (%%ebx), %%eax", version, UPPER << 32 | VERSION);
	VERSION_READS("mov %%rbx, %%r15; movl (%%r15), %%r8d; mov %%r8, %%rax", version, VERSION);
	VERSION_READS("movslq (%%rbx), %%rax", version, VERSION);
	VERSION_READS("movq (%%rbx), %%rax; mov %%eax, %%eax", version, VERSION);
	VERSION_READS("movabsl 0xffff8880fee00030, %%eax", version, 0);
	VERSION_READS("mov $-0x11fffd0, %%rbx; movl (%%ebx), %%eax", version, 0);
	VERSION_READS("movl $0x20, %%r10d; movl %%r10d, (%%rbx); movl (%%rbx), %%eax", 0x20, PRIORITY);
	VERSION_READS("movl $0x30, (%%rbx); movl (%%rbx), %%eax", 0x30, UPPER + PRIORITY);
	VERSION_READS("movl $0, (%%rbx); movl (%%rbx), %%eax", 0, PRIORITY);
	/* Relative to the next instruction, which comes behind the immediate value. */
	LONG_READS("movq near(%%rip), %%rax", ~0ull);
	LONG_READS("cmpq $-1, near(%%rip); sete %%al; movzbl %%al, %%eax", 1);
	LONG_READS("cmpb $-1, near(%%rip); sete %%al; movzbl %%al, %%eax", 1);
	LONG_READS("movl near(%%eip), %%eax", ONES);
	LONG_WRITES("movl $0x12345678, near(%%rip)");
	expect("an address that is not canonical", PROBE("movq (%%rbx), %%rax", : : "b"(0x800000000000ull) : "rax"), GP);
}
asm(".set near, 0x60000000");

static void long_arithmetic(void) {
	LONG_READS("andq (%%rbx), %%rax", LONG_KEEP);
	LONG_READS("orq (%%rbx), %%rax", ~0ull);
	LONG_READS("xorq (%%rbx), %%rax", ~LONG_KEEP);
	LONG_READS("addq (%%rbx), %%rax", LONG_KEEP - 1);
	LONG_READS("subq (%%r9), %%rax", LONG_KEEP + 1);
	LONG_READS("addl (%%rbx), %%eax", 0x55667787);
	LONG_READS("stc; adcq (%%rbx), %%rax", LONG_KEEP);
	LONG_WRITES("orq %%rax, (%%rbx)");
	LONG_WRITES("andq $-16, (%%rbx)");
	LONG_WRITES("addq %%r12, (%%r9)");
	LONG_READS("testq %%rax, (%%rbx); sets %%al; movzbl %%al, %%eax", 0);
	LONG_READS("testl $0x80000000, (%%r9); setnz %%al; movzbl %%al, %%eax", 1);
	LONG_READS("cmpq $-1, (%%rbx); sete %%al; movzbl %%al, %%eax", 1);
	LONG_READS("cmpq (%%rbx), %%rax; seta %%al; movzbl %%al, %%eax", 0);
	LONG_READS("xchgq %%rax, (%%rbx)", ~0ull);
	LONG_READS("mov %%rax, %%r10; xchgl %%r10d, (%%rbx); mov %%r10, %%rax", ONES);
	LONG_READS("btq $40, (%%rbx); setc %%al; movzbl %%al, %%eax", 1);
	LONG_READS("lock btsq $40, (%%rbx); setc %%al; movzbl %%al, %%eax", 1);
	LONG_WRITES("lock incq (%%rbx)");
	LONG_WRITES("notq (%%rbx)");
	LONG_WRITES("negq (%%r9)");
	LONG_WRITES("shlq $40, (%%rbx)");
	LONG_WRITES("shrdq $40, %%rax, (%%rbx)");
	LONG_READS("rcrq $1, (%%rbx); setc %%al; movzbl %%al, %%eax", 1);
	LONG_READS("mulq (%%rbx)", -LONG_KEEP);
	LONG_READS("imulq $-3, (%%rbx), %%rax", 3);
	LONG_READS("bsrq (%%rbx), %%rax", 63);
	LONG_READS("bsfq (%%rbx), %%rax", 0);
	LONG_READS("popcntq (%%rbx), %%rax", 64);
	LONG_READS("test %%rbx, %%rbx; cmovnzq (%%rbx), %%rax", ~0ull);
	/* The upper half is cleared although nothing moves. */
	LONG_READS("test %%rbx, %%rbx; cmovzl (%%rbx), %%eax", 0x55667788);
	LONG_WRITES("setnz (%%r9)");
	LONG_READS("lock cmpxchgq %%r12, (%%rbx)", ~0ull);
	LONG_READS("lock xaddq %%rax, (%%rbx)", ~0ull);
	LONG_READS("movbe (%%rbx), %%rax", ~0ull);
	LONG_WRITES("movbe %%rax, (%%rbx)");
	u64 low = 1, high = 2;
	asm volatile("lock cmpxchg16b (%2)" : "+a"(low), "+d"(high) : "r"(0xe0000000ull), "b"(3ull), "c"(4ull) : "memory", "cc");
	expect("cmpxchg16b: RAX", low, ~0ull);
	expect("cmpxchg16b: RDX", high, ~0ull);
	/* What the emulator leaves to the processor, on tables of four levels. */
	asm volatile("movdqu (%2), %%xmm9\n\tmovq %%xmm9, %0\n\tpsrldq $8, %%xmm9\n\tmovq %%xmm9, %1" : "=r"(low), "=r"(high) : "r"(UPPER + NOWHERE));
	expect("movdqu: low half", low, ~0ull);
	expect("movdqu: high half", high, ~0ull);
	asm volatile("movdqu %%xmm9, (%0)" : : "r"(0xe0000000ull) : "memory");
	asm volatile("divq (%1)" : "=a"(low) : "r"(0xe0000000ull), "a"(~0ull), "d"(0ull) : "cc");
	expect("divq", low, 1);
}

static void long_strings(void) {
	u64 rsi = NOWHERE, rdi = (u64)buffer, rcx = 60, rax = LONG_KEEP;
	asm volatile("rep movsq" : "+S"(rsi), "+D"(rdi), "+c"(rcx) : : "memory");
	expect("rep movsq: rsi and rdi", rsi - NOWHERE == 480 && rdi - (u64)buffer == 480, 1);
	expect("rep movsq: bytes", all(0xff, 0, 480), 1);
	rdi = NOWHERE, rcx = 200;
	asm volatile("rep stosq" : "+D"(rdi), "+c"(rcx) : "a"(0ull) : "memory");
	expect("rep stosq: rdi", rdi, NOWHERE + 1600ull);
	rsi = UPPER + NOWHERE;
	asm volatile("lodsq" : "+S"(rsi), "+a"(rax));
	expect("lodsq: rax", rax, ~0ull);
	expect("lodsq: rsi", rsi, UPPER + NOWHERE + 8);
	rdi = NOWHERE, rcx = 100;
	asm volatile("repe scasq" : "+D"(rdi), "+c"(rcx) : "a"(~0ull) : "cc", "memory");
	expect("repe scasq: rcx", rcx, 0);
	expect("repe scasq: rdi", rdi, NOWHERE + 800ull);
	rsi = (u64)buffer, rdi = NOWHERE, rcx = 100;
	asm volatile("repe cmpsq" : "+S"(rsi), "+D"(rdi), "+c"(rcx) : : "cc", "memory");
	expect("repe cmpsq: words that are equal", rdi - NOWHERE, 8 * 61);
	/* With short addresses, the upper halves become zero; they wrap at 4 GiB. */
	rdi = UPPER << 32 | NOWHERE, rcx = UPPER | 3;
	asm volatile("addr32 rep stosl" : "+D"(rdi), "+c"(rcx) : "a"(0) : "memory");
	expect("addr32 rep stosl: rdi", rdi, NOWHERE + 12ull);
	expect("addr32 rep stosl: rcx", rcx, 0);
	*(volatile u64 *)8 = LONG_KEEP;
	rdi = 0xfffffff0, rcx = 4;
	asm volatile("addr32 rep stosq" : "+D"(rdi), "+c"(rcx) : "a"(0x55ull) : "memory");
	expect("addr32 rep stosq past 4 GiB: rdi", rdi, 0x10);
	expect("addr32 rep stosq past 4 GiB: memory", *(volatile u64 *)8, 0x55);
}

#endif

static void guest(void) {
	uword nowhere = NOWHERE - 4;
	asm volatile("mov %%cr0, " R(ax) "\n\tand $~12, " R(ax) "\n\tmov " R(ax) ", %%cr0\n\t"
		"mov %%cr4, " R(ax) "\n\tor $0x200, " R(ax) "\n\tmov " R(ax) ", %%cr4\n\tfninit" : : : "eax");
	moves();
	arithmetic();
	strings();
#ifdef __x86_64__
	PML4[0x111] = PML4[0];
	long_moves();
	long_arithmetic();
	long_strings();
#endif
	flushes();
	expect("movq to an MMX register", PROBE("movq (%0), %%mm0", : : "r"(nowhere) : "memory"), NONE);
	expect("fldl", PROBE("fldl (%0)", : : "r"(nowhere) : "memory"), NONE);
	expect("lgdt", PROBE("lgdt (%0)", : : "r"(nowhere) : "memory"), UD);
	expect("a jump to nowhere", PROBE("jmp *%0", : : "r"(nowhere) : "memory"), UD);
	/* The end of RAM, half in and half out. */
	*(volatile u16 *)0x3ffffe = 0x1234;
	expect("mov across the end of RAM", *(volatile u32 *)0x3ffffe, 0xffff1234);
}
