/* What only long mode has: its MSRs, SYSCALL and SWAPGS, control registers of 64 bits and CR8, compatibility mode, and the
 * way out of long mode and in again. */
#include "guest.h"

/* An alias of everything in the upper half. */
#define UPPER 0xffff888000000000ull
/* The local APIC: its version, and the register of the task priority. */
#define APIC_VERSION 0xfee00030ull
#define TASK_PRIORITY 0xfee00080ull
#define PATTERN 0x1122334455667788ull

enum { EFER = 0xc0000080, STAR, LSTAR, CSTAR, FMASK, FS_BASE = 0xc0000100, GS_BASE, KERNEL_GS_BASE, TSC_AUX };
static const u32 own[] = {STAR, LSTAR, CSTAR, FMASK, FS_BASE, GS_BASE, KERNEL_GS_BASE, TSC_AUX};
/* Whether the kernel switches the last two of these, KERNEL_GS_BASE and TSC_AUX, for a guest. A fact, since not every one does. */
static u32 switched;

static u64 read_msr(u32 number) {
	u64 low = ~0ull, high = ~0ull;
	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number));
	expect("RDMSR: upper halves", low >> 32 | high >> 32, 0);
	return high << 32 | low;
}

static void msrs(void) {
	expect("EFER", read_msr(EFER), 0x500);
	expect("EFER without LME", wrmsr(EFER, 0x400), GP);
	expect("EFER with a bit that is reserved", wrmsr(EFER, 0x502), GP);
	expect("EFER with SCE and NXE", wrmsr(EFER, 0xd01), NONE);
	expect("EFER with SCE and NXE", read_msr(EFER), 0xd01);
	static const u64 values[][2] = {{STAR, PATTERN}, {LSTAR, UPPER}, {CSTAR, UPPER + 1}, {FMASK, 0x47700},
		{FS_BASE, UPPER + 2}, {GS_BASE, UPPER + 3}, {KERNEL_GS_BASE, UPPER + 4}, {0x277, 0x0407050600070106}, {0x2ff, 0}};
	for (u32 i = 0; i < sizeof values / sizeof *values; i++) {
		expect("WRMSR", wrmsr(values[i][0], values[i][1]), NONE);
	}
	for (u32 i = 0; i < sizeof values / sizeof *values; i++) expect("RDMSR", read_msr(values[i][0]), values[i][1]);
	wrmsr(0x277, 0x0007040600070406);
	wrmsr(0x2ff, 0x806);
	expect("LSTAR that is not canonical", wrmsr(LSTAR, 0x800000000000), GP);
	expect("PAT with a type that is none", wrmsr(0x277, 2), GP);
	expect("SPEC_CTRL", wrmsr(0x48, 1), GP);
	expect("PRED_CMD", wrmsr(0x49, 1), GP);
	u32 value = switched ? 0x12345678 : 0, aux = 7;
	expect("TSC_AUX", wrmsr(TSC_AUX, value), NONE);
	expect("TSC_AUX of more than 32 bits", wrmsr(TSC_AUX, 1ull << 32), GP);
	expect("TSC_AUX", read_msr(TSC_AUX), value);
	asm volatile("rdtscp" : "=c"(aux) : : "rax", "rdx");
	expect("RDTSCP", aux, value);
	asm volatile("swapgs");
	expect("GS after SWAPGS", read_msr(GS_BASE), UPPER + 4);
	asm volatile("swapgs");
	static const u64 word = PATTERN;
	wrmsr(GS_BASE, (u64)&word);
	u64 got;
	asm volatile("movq %%gs:0, %0" : "=r"(got));
	expect("through GS", got, PATTERN);
	/* By way of GS to where there is no RAM, and as a device's register. */
	wrmsr(GS_BASE, APIC_VERSION - 0x10);
	asm volatile("movl %%gs:0x10, %k0" : "=r"(got));
	expect("a device through GS", got & 0xff, 0x15);
}

/* SYSCALL into the kernel and SYSRET out of it, as a user program sees them. */
extern u8 system_call[], user[], user_end[];
asm("system_call:\n"
    "	cmp $1, %eax\n"
    "	je 1f\n"
    "	mov %r11, from_r11\n"
    "	mov $0x77, %eax\n"
    "	sysretq\n"
    "1:	mov kernel_rsp, %rsp\n"
    "	ret\n"
    "enter_user:\n"
    "	mov %rsp, kernel_rsp\n"
    "	mov $user, %ecx\n"
    "	mov $2, %r11d\n"
    "	sysretq\n"
    "user:\n"
    "	mov $2, %eax\n"
    "	stc\n"
    "	syscall\n"
    "	mov %rax, from_user\n"
    "	mov $1, %eax\n"
    "	syscall\n");
volatile u64 kernel_rsp, from_user, from_r11;
void enter_user(void);

static void system_calls(void) {
	wrmsr(0xc0000081, (u64)(CODE_32 + 3) << 48 | (u64)CODE << 32);
	wrmsr(0xc0000082, (u64)system_call);
	wrmsr(0xc0000084, 0x200);
	asm volatile("call enter_user" : : : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
	expect("SYSRET", from_user, 0x77);
	expect("R11 at SYSCALL", from_r11 & 0x203, 3);
}

static u64 read_cr8(void) {
	u64 value;
	asm volatile("movq %%cr8, %0" : "=r"(value));
	return value;
}

static void control_registers(void) {
	u64 cr0, cr3, cr4;
	u32 a = 1, b, c, d;
	asm volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	u32 has_xsave = c >> 26 & 1;
	asm volatile("movq %%cr0, %0\n\tmovq %%cr3, %1\n\tmovq %%cr4, %2" : "=r"(cr0), "=r"(cr3), "=r"(cr4));
	expect("CR0", cr0 & 0xe0000001, 0x80000001);
	expect("CR3", cr3, 0x4000);
	expect("CR4", cr4 & ~0x600, 0x20);
	expect("CR0 without PG, in 64-bit code", PROBE("movq %0, %%cr0", : : "r"(cr0 & ~(1ull << 31))), GP);
	expect("CR0 with bit 32", PROBE("movq %0, %%cr0", : : "r"(cr0 | 1ull << 32)), GP);
	expect("CR4 without PAE", PROBE("movq %0, %%cr4", : : "r"(cr4 & ~0x20ull)), GP);
	expect("CR4 with OSXSAVE", PROBE("movq %0, %%cr4", : : "r"(cr4 | 1 << 18)), has_xsave ? NONE : GP);
	asm volatile("movq %0, %%cr4" : : "r"(cr4));
	expect("CR4 with VMXE", PROBE("movq %0, %%cr4", : : "r"(cr4 | 1 << 13)), GP);
	asm volatile("movq %0, %%r12\n\tmovq %%r12, %%cr0" : : "r"(cr0 | 1 << 16) : "r12");
	asm volatile("movq %%cr0, %%r13\n\tmovq %%r13, %0" : "=r"(cr0) : : "r13");
	expect("CR0 with WP, by R12 and R13", cr0 >> 16 & 1, 1);
	asm volatile("movq %0, %%cr8" : : "r"(5ull));
	expect("CR8", read_cr8(), 5);
	expect("CR8 in the APIC", *(volatile u32 *)TASK_PRIORITY, 0x50);
	expect("CR8 of five bits", PROBE("movq %0, %%cr8", : : "r"(0x10ull)), GP);
	asm volatile("movq %0, %%cr8" : : "r"(0ull));
	u64 dr;
	asm volatile("movq %1, %%dr0\n\tmovq %%dr0, %0" : "=r"(dr) : "r"(UPPER));
	expect("DR0", dr, UPPER);
	expect("DR7 with bit 32", PROBE("movq %0, %%dr7", : : "r"(1ull << 32 | 0x400)), GP);
	asm volatile("movq %0, %%dr0" : : "r"(0ull));
	/* A page that is not to be executed. NXE is set. */
	DIRECTORY[1] |= 1ull << 63;
	asm volatile("invlpg 0x200000" : : : "memory");
	*(volatile u8 *)0x200000 = 0xc3;
	expect("code in a page that has none", PROBE("jmp *%0", : : "r"(0x200000ull)), PF);
	expect("its error code: a fetch, and the page is there", error_code, 0x11);
	DIRECTORY[1] &= ~(1ull << 63);
	asm volatile("invlpg 0x200000" : : : "memory");
}

/* 32-bit code, in compatibility mode and then without long mode. Registers keep what it found. */
volatile u32 off_bases[3];
volatile u32 narrow_features, narrow_in, narrow_version, narrow_efer, off_efer, off_cr3, off_version, off_port, in_efer, narrow_word;
asm("compatibility:\n"
    "	ljmp *narrow_pointer\n"
    "	.code32\n"
    "narrow:\n"
    "	mov $0x1122, %eax\n"
    "	mov $0x500, %edx\n"
    "	in %dx, %al\n"
    "	mov %eax, narrow_in\n"
    "	mov 0xfee00030, %eax\n"
    "	mov %eax, narrow_version\n"
    "	mov $0x80000001, %eax\n"
    "	cpuid\n"
    "	mov %edx, narrow_features\n"
    "	movzwl 0xe0000000, %eax\n"
    "	mov %eax, narrow_word\n"
    "	mov $0xc0000080, %ecx\n"
    "	rdmsr\n"
    "	mov %eax, narrow_efer\n"
    /* Out of long mode. */
    "	mov %cr0, %eax\n"
    "	and $0x7fffffff, %eax\n"
    "	mov %eax, %cr0\n"
    "	rdmsr\n"
    "	mov %eax, off_efer\n"
    /* The bases are there without long mode as well. */
    "	mov $0x1234, %eax\n"
    "	xor %edx, %edx\n"
    "	mov $0xc0000100, %ecx\n"
    "1:	wrmsr\n"
    "	inc %eax\n"
    "	inc %ecx\n"
    "	cmp $0xc0000103, %ecx\n"
    "	jne 1b\n"
    "2:	dec %ecx\n"
    "	rdmsr\n"
    "	mov %eax, off_bases - 4 * 0x100(,%ecx,4)\n"
    "	cmp $0xc0000100, %ecx\n"
    "	jne 2b\n"
    "	mov $0xc0000080, %ecx\n"
    "	mov %cr3, %eax\n"
    "	mov %eax, off_cr3\n"
    "	mov %cr4, %eax\n"
    "	and $~0x20, %eax\n"
    "	mov %eax, %cr4\n"
    "	mov 0xfee00030, %eax\n"
    "	mov %eax, off_version\n"
    "	mov $0x500, %edx\n"
    "	in %dx, %eax\n"
    "	mov %eax, off_port\n"
    /* And in again. */
    "	mov %cr4, %eax\n"
    "	or $0x20, %eax\n"
    "	mov %eax, %cr4\n"
    "	mov $0x4000, %eax\n"
    "	mov %eax, %cr3\n"
    "	mov %cr0, %eax\n"
    "	or $0x80000000, %eax\n"
    "	mov %eax, %cr0\n"
    "	rdmsr\n"
    "	mov %eax, in_efer\n"
    "	ljmp $0x10, $wide\n"
    "	.code64\n"
    "wide:\n"
    "	ret\n"
    "narrow_pointer:\n"
    "	.long narrow\n"
    "	.word 0x20\n");

static void modes(void) {
	u64 kept = PATTERN, r15;
	asm volatile("movq %2, %%r15\n\tcall compatibility\n\tmovq %%r15, %1" : "+r"(kept), "=r"(r15) : "r"(PATTERN)
		: "rax", "rbx", "rcx", "rdx", "r15", "memory", "cc");
	expect("IN AL in compatibility mode", narrow_in, 0x11ff);
	expect("CPUID in compatibility mode: SYSCALL, NX, LM", narrow_features & (1 << 11 | 1 << 20 | 1 << 29), 1 << 20 | 1 << 29);
	expect("APIC in compatibility mode", narrow_version & 0xff, 0x15);
	expect("MOVZX in compatibility mode", narrow_word, 0xffff);
	expect("EFER in compatibility mode", narrow_efer, 0xd01);
	expect("EFER without paging", off_efer, 0x901);
	for (u32 i = 0; i < 3; i++) {
		expect("a base without paging", off_bases[i], 0x1234 + i);
		expect("a base of long mode", read_msr(FS_BASE + i), 0x1234 + i);
	}
	expect("CR3 without paging", off_cr3, 0x4000);
	expect("APIC without paging", off_version & 0xff, 0x15);
	expect("IN EAX without paging", off_port, 0xffffffff);
	expect("EFER again", in_efer, 0xd01);
	expect("R15 after all of it", r15, PATTERN);
}

static void features(void) {
	u32 a = 0x80000001, b, c, d;
	asm volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	expect("CPUID: SYSCALL, NX, LM", d & (1 << 11 | 1 << 20 | 1 << 29), 1 << 11 | 1 << 20 | 1 << 29);
	expect("CPUID: LAHF", c & 1, 1);
}

/* A reset leaves none of what the guest's last life has left in these. */
static void after_a_reset(void) {
	for (u32 i = 0; i < sizeof own / sizeof *own - 2 * !switched; i++) {
		expect("an MSR at the start", read_msr(own[i]), 0);
		if (!KEPT) wrmsr(own[i], 0x12345678);
	}
	if (KEPT++) return;
	out8(0xcf9, 0x02);
	out8(0xcf9, 0x06);
}

static void guest(void) {
	expect("TSC_AUX at the start", read_msr(TSC_AUX), 0);
	switched = wrmsr(TSC_AUX, 1) == NONE;
	wrmsr(TSC_AUX, 0);
	FACT("switched", switched);
	after_a_reset();
	features();
	PML4[0x111] = PML4[0];
	msrs();
	system_calls();
	control_registers();
	for (u32 i = 0; i < 100; i++) modes();
}
