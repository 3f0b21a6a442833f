/* Hardware breakpoints on code, on data, on ports (CR4.DE), and general detect: each is one #DB with its reason in DR6, also
 * where the VMM does the access. */
#include "guest.h"

static volatile u32 x, traps, dr6, dr7;
extern u8 trapped[], here[];
asm("trapped:\n"
    "	push " AX "\n"
    "	incl traps\n"
    "	mov %dr6, " AX "\n"
    "	mov %eax, dr6\n"
    "	mov %dr7, " AX "\n"
    "	mov %eax, dr7\n"
    "	xor %eax, %eax\n"
    "	mov " AX ", %dr6\n"
    "	mov " AX ", %dr7\n"
    "	pop " AX "\n"
    "	" IRET "\n");

/* Sets breakpoint 0, runs `code`, and expects a trap for `reason` in DR6, or none if that is zero. */
#define STOPS(what, address, control, code, reason)                         \
	do {                                                                    \
		traps = dr6 = 0;                                                    \
		asm volatile("mov %0, %%dr0\n\tmov %1, %%dr7" : : "r"((uword)(address)), "r"((uword)(control)) : "memory"); \
		code;                                                               \
		asm volatile("mov %0, %%dr7" : : "r"((uword)0) : "memory");                \
		expect("traps of " what, traps, (reason) ? 1 : 0);                  \
		expect("dr6 after " what, dr6 & 0xe00f, reason);                    \
	} while (0)

enum { CODE_1 = 0x2, WRITE_1 = 0x10002, PORT_1 = 0x20002, PORT_4 = 0xe0002, WRITE_4 = 0xd0002, ANY_4 = 0xf0002, GD = 0x2000 };

static void guest(void) {
	uword value, nowhere = 0xe0000000;
	set_gate(DB, trapped, 0x8e);
	STOPS("a write", (uword)&x, WRITE_4, x = 1, 1);
	STOPS("a write of another byte", (uword)&x + 1, WRITE_1, *(volatile u8 *)&x = 1, 0);
	STOPS("a read", (uword)&x, ANY_4, (void)x, 1);
	STOPS("a read, where it waits for a write", (uword)&x, WRITE_4, (void)x, 0);
	STOPS("an instruction", (uword)here, CODE_1, asm volatile("nop\nhere: nop"), 1);
	STOPS("a write to memory that the VMM emulates", nowhere, WRITE_4, *(volatile u32 *)nowhere = 1, 1);
	STOPS("an exclusive or there", nowhere, ANY_4, *(volatile u32 *)nowhere ^= 1, 1);
	STOPS("a port without CR4.DE", 0x80, PORT_1, out8(0x80, 1), 0);
	asm volatile("mov %%cr4, %0\n\tor $8, %0\n\tmov %0, %%cr4" : "=&r"(value));
	STOPS("a port", 0x80, PORT_1, out8(0x80, 1), 1);
	STOPS("a port of another device", 0x84, PORT_4, in8(0x71), 0);
	STOPS("a wide port", 0xcf8, PORT_4, in8(0xcfb), 1);
	STOPS("a port by OUTSB", 0x80, PORT_1, asm volatile("mov %0, " R(si) "; outsb" : : "r"(&x), "d"(0x80) : "esi", "memory"), 1);
	STOPS("general detect", 0, GD, asm volatile("mov %%dr0, %0" : "=r"(value)), 0x2000);
	expect("general detect is off then", dr7 & GD, 0);
	asm volatile("mov %%dr7, %0" : "=r"(value));
	expect("dr7 at the end", value, 0x400);
}
