/* Alignment checks, which exit: an unaligned access of user code is #AC. Of 32-bit code: a timer interrupt whose delivery to user
 * code is #AC comes once that is handled; and #AC whose own delivery is #AC, which no processor gets out of, is a reset. A word of
 * memory tells the second start from the first. In long mode the processor aligns a stack before it delivers anything to it (SDM
 * volume 3, "64-Bit Mode Stack Frame"), so neither exists. */
#include "guest.h"

enum { AC = 17, ALIGNMENT_MASK = 1 << 18 };

/* Privilege level 0: counts, and aligns the stack of the user code. */
volatile u32 checks;
extern u8 align[];
asm("align:\n"
    "	incl checks\n"
    "	andl $-" WORD ", 4*" WORD "(" SP ")\n"
    "	add $" WORD ", " SP "\n"
    "	" IRET "\n");

/* Privilege level 3, reached without a change of stacks. Code that runs there may use ports. */
extern u8 never[];
asm("never: jmp never\n");

static void set_user_gate(u32 vector, void *to) {
	set_gate(vector, to, 0xee);
	u16 *selector = (u16 *)idt + vector * sizeof(uword) + 1;
	*selector = USER_CODE;
}

static u32 caught;

static void access(void) {
	caught = PROBE("pushf; orl $0x40000, (" R(sp) "); popf; mov 1(%0), %%eax", : : "r"(stack) : "eax", "memory", "cc");
	asm volatile("pushf\n\tandl $~0x40000, (" R(sp) ")\n\tpopf" : : : "memory", "cc");
}

/* Three ticks, each on a stack that is not aligned. */
static void be_interrupted(void) {
	asm volatile("mov " R(sp) ", " R(bx) "\n\t"
		"pushf\n\torl $0x40200, (" R(sp) ")\n\tpopf\n"
		"1:	mov ticks, %%eax\n\t"
		"cmp $3, %%eax\n\tjae 3f\n\t"
		"lea -5(" R(bx) "), " R(sp) "\n"
		"2:	cmp ticks, %%eax\n\tje 2b\n\t"
		"jmp 1b\n"
		"3:	mov " R(bx) ", " R(sp) "\n\t"
		"pushf\n\tandl $~0x40200, (" R(sp) ")\n\tpopf"
		: : : "eax", "ebx", "memory", "cc");
}

#ifdef __i386__
static void fault_for_ever(void) {
	asm volatile("pushf\n\torl $0x40000, (" R(sp) ")\n\tpopf\n\tmovl $user_stack + 1021, %%esp\n\tpush $1" : : : "memory");
	for (;;);
}
#endif

static void guest(void) {
	if (KEPT == 0xac) return;
	KEPT = 0xac;
	asm volatile("mov %%cr0, " R(ax) "\n\tor %0, " R(ax) "\n\tmov " R(ax) ", %%cr0" : : "i"(ALIGNMENT_MASK) : "eax");
	in_user_mode(access);
	expect("the vector of an unaligned access", caught, AC);
	set_gate(AC, align, 0x8e);
	start_timer();
	set_user_gate(0x20, tick);
	asm volatile("pushf\n\torl $0x3000, (" R(sp) ")\n\tpopf" : : : "cc");  /* IOPL 3 */
	in_user_mode(be_interrupted);
	/* Beside other guests, some may come together, and then the later ones find a stack that is aligned. */
	expect("at least three ticks", ticks >= 3, 1);
#ifdef __x86_64__
	expect("alignment checks at ticks", checks, 0);
#else
	expect("alignment checks at ticks", checks >= 1 && checks <= ticks, 1);
	print(failures ? "guest: wrong\n" : "guest: #AC for ever\n");
	set_user_gate(AC, never);
	in_user_mode(fault_for_ever);
#endif
}
