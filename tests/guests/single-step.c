/* Single steps over instructions of both kinds, those that exit and those that do not: a trap after each, and the reason in
 * DR6. INT1 traps as well, without a reason. */
#include "guest.h"

/* #DB, and those of them that DR6 calls a step (BS, bit 14). */
volatile u32 traps, steps;
extern u8 trapped[];
asm("trapped:\n"
    "	push " AX "\n"
    "	incl traps\n"
    "	mov %dr6, " AX "\n"
    "	shr $14, %eax\n"
    "	and $1, %eax\n"
    "	add %eax, steps\n"
    "	xor %eax, %eax\n"
    "	mov " AX ", %dr6\n"
    "	pop " AX "\n"
    "	" IRET "\n");

/* The trap flag is on from the instruction after the first POPF to the second POPF. EBX leads to where there is no RAM. */
#define STEP_OVER(count, instructions)                                      \
	do {                                                                    \
		traps = steps = 0;                                                  \
		asm volatile("mov $0xe0000000, %%ebx\n\tpushf\n\torl $0x100, (" R(sp) ")\n\tpopf\n\t" instructions \
			"\n\tpushf\n\tandl $~0x100, (" R(sp) ")\n\tpopf" NOTHING);          \
		expect("traps of " instructions, traps, count + 3);                 \
		expect("steps of " instructions, steps, count + 3);                 \
	} while (0)

static void guest(void) {
	set_gate(DB, trapped, 0x8e);
	STEP_OVER(2, "nop; nop");
	STEP_OVER(3, "nop; cpuid; nop");
	STEP_OVER(2, "in $0x80, %%al; in $0x80, %%al");
	STEP_OVER(2, "mov (" R(bx) "), %%eax; nop");
	STEP_OVER(2, "wbinvd; mov %%dr7, " R(ax));
	traps = steps = 0;
	asm volatile(".byte 0xf1" : : : "memory");
	expect("traps of int1", traps, 1);
	expect("steps of int1", steps, 0);
}
