/* Alignment checks, which exit: an unaligned access of user code is #AC; a timer interrupt whose delivery to user code is #AC
 * comes once that is handled; and #AC whose own delivery is #AC, which no processor gets out of, is a reset. A word of memory
 * tells the second start from the first. */
#include "guest.h"

enum { AC = 17, ALIGNMENT_MASK = 1 << 18 };

/* Privilege level 0: counts, and aligns the stack of the user code. */
volatile u32 checks;
extern u8 align[];
asm("align:\n"
    "	incl checks\n"
    "	andl $~3, 16(%esp)\n"
    "	add $4, %esp\n"
    "	iret\n");

/* Privilege level 3, reached without a change of stacks. Code that runs there may use ports. */
extern u8 never[];
asm("never: jmp never\n");

static u64 user_gate(void *to) {
	return (gate(to, 0xee) & ~0xffff0000ull) | (u64)USER_CODE << 16;
}

static u32 vector;

static void access(void) {
	vector = PROBE("pushf; orl $0x40000, (%%esp); popf; mov 1(%0), %%eax", : : "r"(stack) : "eax", "memory", "cc");
	asm volatile("pushf\n\tandl $~0x40000, (%%esp)\n\tpopf" : : : "memory", "cc");
}

/* Three ticks, each on a stack that is not aligned. */
static void be_interrupted(void) {
	asm volatile("mov %%esp, %%ebx\n\t"
		"pushf\n\torl $0x40200, (%%esp)\n\tpopf\n"
		"1:	mov ticks, %%eax\n\t"
		"cmp $3, %%eax\n\tjae 3f\n\t"
		"lea -5(%%ebx), %%esp\n"
		"2:	cmp ticks, %%eax\n\tje 2b\n\t"
		"jmp 1b\n"
		"3:	mov %%ebx, %%esp\n\t"
		"pushf\n\tandl $~0x40200, (%%esp)\n\tpopf"
		: : : "eax", "ebx", "memory", "cc");
}

static void fault_for_ever(void) {
	asm volatile("pushf\n\torl $0x40000, (%%esp)\n\tpopf\n\tmovl $user_stack + 1021, %%esp\n\tpushl $1" : : : "memory");
	for (;;);
}

static void guest(void) {
	if (KEPT == 0xac) return;
	KEPT = 0xac;
	asm volatile("mov %%cr0, %%eax\n\tor %0, %%eax\n\tmov %%eax, %%cr0" : : "i"(ALIGNMENT_MASK) : "eax");
	in_user_mode(access);
	expect("the vector of an unaligned access", vector, AC);
	idt[AC] = gate(align, 0x8e);
	start_timer();
	idt[0x20] = user_gate(tick);
	asm volatile("pushf\n\torl $0x3000, (%%esp)\n\tpopf" : : : "cc");  /* IOPL 3 */
	in_user_mode(be_interrupted);
	expect("ticks", ticks, 3);
	expect("alignment checks at ticks", checks, 3);
	print(failures ? "guest: wrong\n" : "guest: #AC for ever\n");
	idt[AC] = user_gate(never);
	in_user_mode(fault_for_ever);
}
