/* Addresses without RAM, by every MOV and every other form that Linux uses on device memory: they read all ones, and
 * writes vanish. Forms that no driver uses are #UD, in the guest. */
#include "guest.h"

enum { NOWHERE = 0xe0000004, ONES = 0xffffffff, KEEP = 0x12345678 };

/* EAX after an instruction, where it was KEEP before; EDI is the address. */
#define EAX_AFTER(instruction)                                              \
	({                                                                      \
		u32 eax = KEEP, ecx = 0, edi = NOWHERE;                             \
		expect("vector of " instruction, PROBE(instruction,                 \
			: "+a"(eax), "+c"(ecx), "+D"(edi) : : "ebx", "edx", "memory", "cc"), NONE); \
		eax;                                                                \
	})
#define READS(instruction, value) expect(instruction, EAX_AFTER(instruction), value)
#define WRITES(instruction) READS(instruction, KEEP)

static void moves(void) {
	READS("mov (%%edi), %%al", 0x123456ff);
	READS("mov (%%edi), %%ah", 0x1234ff78);
	READS("mov (%%edi), %%ax", 0x1234ffff);
	READS("mov (%%edi), %%eax", ONES);
	READS("mov 0xe0000000, %%al", 0x123456ff);
	READS("mov 0xe0000000, %%ax", 0x1234ffff);
	READS("mov 0xe0000000, %%eax", ONES);
	READS("mov 8(%%edi,%%ecx,4), %%eax", ONES);
	READS("movzbl (%%edi), %%eax", 0xff);
	READS("movzwl (%%edi), %%eax", 0xffff);
	READS("movzbw (%%edi), %%ax", 0x123400ff);
	READS("movsbl (%%edi), %%eax", ONES);
	READS("movswl (%%edi), %%eax", ONES);
	READS("movsbw (%%edi), %%ax", 0x1234ffff);
	READS("mov (%%edi), %%ebx; mov %%ebx, %%eax", ONES);
	WRITES("mov %%al, (%%edi)");
	WRITES("mov %%ah, (%%edi)");
	WRITES("mov %%ax, (%%edi)");
	WRITES("mov %%eax, (%%edi)");
	WRITES("mov %%al, 0xe0000000");
	WRITES("mov %%ax, 0xe0000000");
	WRITES("mov %%eax, 0xe0000000");
	WRITES("movb $1, (%%edi)");
	WRITES("movw $0x1234, (%%edi)");
	WRITES("movl $0x12345678, (%%edi)");
	WRITES("movl $1, 0x1000(%%edi)");
}

static void arithmetic(void) {
	READS("andl (%%edi), %%eax", KEEP);
	READS("orl (%%edi), %%eax", ONES);
	READS("xorl (%%edi), %%eax", ~KEEP);
	READS("addl (%%edi), %%eax", KEEP - 1);
	READS("subl (%%edi), %%eax", KEEP + 1);
	WRITES("orl %%eax, (%%edi)");
	WRITES("andl $1, (%%edi)");
	WRITES("addb $1, (%%edi)");
	READS("testl $0x80000000, (%%edi); setnz %%al", 0x12345601);
	READS("cmpl $-1, (%%edi); sete %%al", 0x12345601);
	READS("cmpb $0, (%%edi); sete %%al", 0x12345600);
	READS("xchg %%eax, (%%edi)", ONES);
	READS("btl $5, (%%edi); setc %%al", 0x12345601);
	READS("lock btsl $5, (%%edi); setc %%al", 0x12345601);
	WRITES("lock incl (%%edi)");
	WRITES("notl (%%edi)");
	WRITES("shll $4, (%%edi)");
	WRITES("rolb %%cl, (%%edi)");
	WRITES("shrdl $3, %%eax, (%%edi)");
	READS("rcrl $1, (%%edi); setc %%al", 0x12345601);
	READS("mull (%%edi)", -KEEP);
	READS("imull $-3, (%%edi), %%eax", 3);
	READS("bsrl (%%edi), %%eax", 31);
	READS("bsfl (%%edi), %%eax", 0);
	READS("popcntl (%%edi), %%eax", 32);
	READS("test %%edi, %%edi; cmovnzl (%%edi), %%eax", ONES);
	WRITES("setnz (%%edi)");
	READS("lock cmpxchgl %%ecx, (%%edi)", ONES);
	READS("lock xaddl %%eax, (%%edi)", ONES);
}

static u8 buffer[512];

static u32 all(u8 byte, u32 from, u32 to) {
	u32 right = 1;
	for (u32 i = from; i < to; i++) right &= buffer[i] == byte;
	return right;
}

/* REP MOVS to RAM, from RAM, within nowhere, and STOS and LODS: more than the VMM does at one exit. */
static void strings(void) {
	u32 esi = NOWHERE, edi = (u32)buffer, ecx = 100, eax = KEEP;
	asm volatile("rep movsl" : "+S"(esi), "+D"(edi), "+c"(ecx) : : "memory");
	expect("rep movsl from nowhere: bytes", all(0xff, 0, 400) & all(0, 400, 512), 1);
	expect("rep movsl from nowhere: esi", esi, NOWHERE + 400);
	expect("rep movsl from nowhere: edi", edi, (u32)buffer + 400);
	expect("rep movsl from nowhere: ecx", ecx, 0);
	esi = (u32)buffer, edi = NOWHERE, ecx = 511;
	asm volatile("rep movsb" : "+S"(esi), "+D"(edi), "+c"(ecx) : : "memory");
	expect("rep movsb to nowhere: esi", esi, (u32)buffer + 511);
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
	static const u32 at[] = {NOWHERE, 0xfee00020};
	for (u32 i = 0; i < 2; i++) {
		u32 zero = 0;
		expect("clflush", PROBE("clflush (%0)", : : "r"(at[i]) : "memory"), NONE);
		expect("prefetcht0", PROBE("prefetcht0 (%0)", : : "r"(at[i]) : "memory"), NONE);
		expect("movnti", PROBE("movnti %1, (%0)", : : "r"(at[i]), "r"(zero) : "memory"), NONE);
		expect("cmpxchg8b", PROBE("lock cmpxchg8b (%%edi)", : : "D"(at[i]), "a"(0), "b"(0), "c"(0), "d"(0) : "memory"), NONE);
		expect("movbe", PROBE("movbe (%0), %%eax", : : "r"(at[i]) : "eax", "memory"), NONE);
	}
	expect("movups from a device", PROBE("movups 0xfee00020, %%xmm0", NOTHING), UD);
	expect("fnstcw to a device", PROBE("fnstcw 0xfee00020", NOTHING), UD);
}

static void guest(void) {
	asm volatile("mov %%cr0, %%eax\n\tand $~12, %%eax\n\tmov %%eax, %%cr0\n\t"
		"mov %%cr4, %%eax\n\tor $0x200, %%eax\n\tmov %%eax, %%cr4\n\tfninit" : : : "eax");
	moves();
	arithmetic();
	strings();
	flushes();
	expect("movq to an MMX register", PROBE("movq 0xe0000000, %%mm0", NOTHING), NONE);
	expect("fldl", PROBE("fldl 0xe0000000", NOTHING), NONE);
	expect("lgdt", PROBE("lgdt 0xe0000000", NOTHING), UD);
	expect("a jump to nowhere", PROBE("jmp *%0", : : "r"(NOWHERE) : "memory"), UD);
	/* The end of RAM, half in and half out. */
	*(volatile u16 *)0x3ffffe = 0x1234;
	expect("mov across the end of RAM", *(volatile u32 *)0x3ffffe, 0xffff1234);
}
