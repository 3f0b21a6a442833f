/* The local APIC: found by CPUID and the MP table, its registers and MSRs, interrupts to itself, its timer in all modes, and
 * how the 8259's interrupts pass by it or through it; and all of it again as an x2APIC, there and back. */
#include "guest.h"

enum { BASE = 0xfee00000, TPR = 0x80, EOI = 0xb0, SVR = 0xf0, IRR = 0x200, ESR = 0x280, ICR = 0x300 };
enum { TIMER = 0x320, LINT0 = 0x350, INITIAL = 0x380, CURRENT = 0x390, DIVIDE = 0x3e0 };
enum { MASKED = 1 << 16, PERIODIC = 1 << 17, DEADLINE = 2 << 17, SELF = 1 << 18, VECTOR = 0x28 };

static volatile u32 *reg(u32 offset) { return (volatile u32 *)(uword)(BASE + offset); }

static u64 tsc(void) {
	u32 low, high;
	asm volatile("rdtsc" : "=a"(low), "=d"(high));
	return (u64)high << 32 | low;
}

/* Whether interrupt VECTOR is requested: they are off all the time. */
static u32 requested(void) { return *reg(IRR + 0x10) >> (VECTOR - 0x20) & 1; }

/* Takes what is requested: the interrupt comes at the NOP. */
static volatile u32 taken;
asm("take:\n"
    "	push " AX "\n"
    "	incl taken\n"
    "	mov $0xfee000b0, %eax\n"
    "	movl $0, (" AX ")\n"
    "	pop " AX "\n"
    "	" IRET "\n");
extern u8 take[];

static u32 take_all(void) {
	taken = 0;
	asm volatile("sti; nop; nop; cli" : : : "memory");
	return taken;
}

static void take_it(const char *what, u32 times) { expect(what, take_all(), times); }

static void identity(void) {
	u32 a = 1, b, c = 0, d;
	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	expect("CPUID: APIC", d >> 9 & 1, 1);
	expect("CPUID: TSC deadline", c >> 24 & 1, 1);
	expect("CPUID: x2APIC", c >> 21 & 1, 1);
	expect("CPUID: APIC ID", b >> 24, 0);
	expect("version", *reg(0x30), 0x00050015);
	expect("MP pointer", *(u32 *)0x9fc00, 0x5f504d5f);
	expect("base", (u32)rdmsr(0x1b), 0xfee00900);
	expect("switching it off", wrmsr(0x1b, 0xfee00100), GP);
	expect("moving it", wrmsr(0x1b, 0xfed00900), GP);
	expect("an x2APIC that is off", wrmsr(0x1b, 0xfee00500), GP);
}

static void to_itself(void) {
	*reg(ICR) = SELF | VECTOR;
	expect("requested", requested(), 1);
	*reg(TPR) = VECTOR;
	take_it("held back by the task's priority", 0);
	*reg(TPR) = 0;
	take_it("let through", 1);
	*reg(ICR) = SELF | 7;
	*reg(ESR) = 0;
	expect("reserved vector: error status", *reg(ESR), 1 << 5);
	*reg(ESR) = 0;
	expect("error status cleared", *reg(ESR), 0);
	expect("INIT to itself", (*reg(ICR) = 0x4500, requested()), 0);
}

static void timer(void) {
	*reg(DIVIDE) = 0xb;
	*reg(TIMER) = VECTOR;
	/* Servers that are still starting may take the processor for longer than that, but not each time. */
	u64 least = ~0ull;
	for (u32 i = 0; i < 5; i++) {
		*reg(INITIAL) = 50000;
		u32 count = *reg(CURRENT);
		expect("it counts", count > 0 && count < 50000, 1);
		u64 start = tsc();
		while (!requested()) {}
		u64 took = tsc() - start;
		if (took < least) least = took;
		expect("count", *reg(CURRENT), 0);
		take_it("one shot", 1);
	}
	expect("100,000 ticks", least < 200000, 1);
	*reg(TIMER) = PERIODIC | VECTOR;
	*reg(INITIAL) = 1;
	for (u32 i = 0; i < 50; i++) {
		while (!requested()) {}
		/* More may be due before the guest goes on, but it does. */
		expect("a period of two ticks", take_all() >= 1, 1);
	}
	*reg(TIMER) = MASKED;
	take_all();
	*reg(TIMER) = DEADLINE | VECTOR;
	expect("a deadline", wrmsr(0x6e0, tsc() + 100000), NONE);
	expect("not yet", requested(), 0);
	while (!requested()) {}
	take_it("the deadline", 1);
	expect("is gone", (u32)rdmsr(0x6e0), 0);
	wrmsr(0x6e0, 1);
	take_it("a deadline in the past", 1);
	wrmsr(0x6e0, ~0ull);
	take_it("one never", 0);
	/* HLT wakes up for one. */
	wrmsr(0x6e0, tsc() + 100000);
	taken = 0;
	asm volatile("sti; hlt; cli" : : : "memory");
	expect("woken up", taken, 1);
	*reg(TIMER) = MASKED;
}

static void with_the_8259(void) {
	start_timer();
	while (ticks < 3) asm volatile("sti; hlt; cli" : : : "memory");
	*reg(LINT0) = MASKED | 0x700;
	while (ticks < 5) asm volatile("sti; hlt; cli" : : : "memory");
	out8(0x22, 0x70);
	out8(0x23, 1);
	u32 before = ticks;
	u64 start = tsc();
	asm volatile("sti" : : : "memory");
	while (tsc() - start < 5000000) {}
	asm volatile("cli" : : : "memory");
	expect("ticks through a masked LINT0", ticks, before);
	*reg(LINT0) = 0x700;
	while (ticks < before + 3) asm volatile("sti; hlt; cli" : : : "memory");
	*reg(SVR) = 0xff;
	expect("switched off: LINT0", *reg(LINT0), MASKED | 0x700);
}

static void odd_accesses(void) {
	volatile u8 *byte = (volatile u8 *)reg(0);
	*(volatile u8 *)reg(TPR) = 0x33;
	*(volatile u16 *)reg(TPR) = 0x33;
	*reg(TPR + 2) = 0x33;
	expect("narrow and misaligned writes", *reg(TPR), 0);
	expect("a byte", byte[0x32], 5);
	for (u32 at = 0; at < 0x1000; at += 4) {
		if (at != EOI && at != ICR && at != SVR) *reg(at) = *reg(at);
	}
	*reg(0xffe) = 0;
	FACT("across the end", *reg(0xffe));
}

/* The MSR of the register at an offset. */
static u32 msr(u32 offset) { return 0x800 + offset / 16; }

asm("take_by_msr:\n"
    "	push " AX "\n"
    "	push " CX "\n"
    "	push " DX "\n"
    "	incl taken\n"
    "	mov $0x80b, %ecx\n"
    "	xor %eax, %eax\n"
    "	xor %edx, %edx\n"
    "	wrmsr\n"
    "	pop " DX "\n"
    "	pop " CX "\n"
    "	pop " AX "\n"
    "	" IRET "\n");
extern u8 take_by_msr[];

static void x2apic(void) {
	enum { ID = 0x20, VERSION = 0x30, LDR = 0xd0, SELF_IPI = 0x3f0 };
	u32 low, high;
	*reg(SVR) = 0x1ff;
	set_gate(VECTOR, take_by_msr, 0x8e);
	expect("an MSR of an xAPIC", PROBE("rdmsr", : "=a"(low), "=d"(high) : "c"(msr(VERSION)) : "memory"), GP);
	expect("x2APIC", wrmsr(0x1b, 0xfee00d00), NONE);
	expect("x2APIC: base", (u32)rdmsr(0x1b), 0xfee00d00);
	expect("x2APIC: memory", *reg(VERSION), 0xffffffff);
	expect("x2APIC: version", (u32)rdmsr(msr(VERSION)), 0x00050015);
	expect("x2APIC: ID", (u32)rdmsr(msr(ID)), 0);
	expect("x2APIC: logical ID", (u32)rdmsr(msr(LDR)), 1);
	expect("x2APIC: it stays enabled", (u32)rdmsr(msr(SVR)), 0x1ff);
	expect("x2APIC: SELF IPI", wrmsr(msr(SELF_IPI), VECTOR), NONE);
	expect("x2APIC: requested", (u32)rdmsr(msr(IRR + 0x10)), 1 << (VECTOR - 0x20));
	take_it("x2APIC: to itself", 1);
	wrmsr(msr(ICR), SELF | VECTOR);
	take_it("x2APIC: to itself by a command", 1);
	wrmsr(msr(ICR), 0xffffffffull << 32 | VECTOR);
	take_it("x2APIC: to all", 1);
	wrmsr(msr(ICR), 1ull << 32 | VECTOR);
	take_it("x2APIC: to another", 0);
	expect("x2APIC: TPR", wrmsr(msr(TPR), VECTOR), NONE);
	wrmsr(msr(SELF_IPI), VECTOR);
	take_it("x2APIC: held back", 0);
#ifdef __x86_64__
	u64 priority;
	asm volatile("mov %%cr8, %0; mov %1, %%cr8" : "=&r"(priority) : "r"(0ull));
	expect("x2APIC: CR8", priority, VECTOR >> 4);
	expect("x2APIC: TPR after CR8", (u32)rdmsr(msr(TPR)), 0);
#else
	wrmsr(msr(TPR), 0);
#endif
	take_it("x2APIC: let through", 1);
	expect("x2APIC: TPR of nine bits", wrmsr(msr(TPR), 0x100), GP);
	expect("x2APIC: EOI of one", wrmsr(msr(EOI), 1), GP);
	expect("x2APIC: no DFR", wrmsr(msr(0xe0), 0), GP);
	expect("x2APIC: timer", wrmsr(msr(TIMER), DEADLINE | VECTOR), NONE);
	wrmsr(0x6e0, tsc() + 100000);
	taken = 0;
	asm volatile("sti; hlt; cli" : : : "memory");
	expect("x2APIC: woken up", taken, 1);
	expect("x2APIC: straight back", wrmsr(0x1b, 0xfee00900), GP);
	expect("x2APIC: off", wrmsr(0x1b, 0xfee00100), NONE);
	expect("x2APIC: on again", wrmsr(0x1b, 0xfee00d00), GP);
	expect("xAPIC again", wrmsr(0x1b, 0xfee00900), NONE);
	expect("xAPIC again: version", *reg(VERSION), 0x00050015);
	expect("xAPIC again: it is disabled", *reg(SVR), 0xff);
}

static void guest(void) {
	set_gate(VECTOR, take, 0x8e);
	identity();
	to_itself();
	timer();
	odd_accesses();
	with_the_8259();
	x2apic();
}
