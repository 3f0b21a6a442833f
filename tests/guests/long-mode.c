/* A guest in long mode: exits of every kind, the MSRs and control registers that long mode has, compatibility mode, and the
 * way out of long mode and in again. */
#include "long.h"

/* An address without RAM or a device; another, within two gigabytes of the code; and an alias of all in the upper half. */
#define NOWHERE 0xe0000000ull
#define NEAR 0x60000000ull
#define UPPER 0xffff888000000000ull
/* The local APIC: its version, and the register of the task priority. */
#define APIC_VERSION 0xfee00030ull
#define TASK_PRIORITY 0xfee00080ull
#define PATTERN 0x1122334455667788ull

static u8 buffer[4096];

static void ports(void) {
	u64 a = PATTERN;
	asm volatile("inb %w1, %b0" : "+a"(a) : "d"(0x500));
	expect("IN AL", a, PATTERN | 0xff);
	a = PATTERN;
	asm volatile("inw %w1, %w0" : "+a"(a) : "d"(0x500));
	expect("IN AX", a, PATTERN | 0xffff);
	a = PATTERN;
	asm volatile("inl %w1, %k0" : "+a"(a) : "d"(0x500));
	expect("IN EAX", a, 0xffffffff);
	a = PATTERN;
	asm volatile("outb %b0, $0x80\n\tinb $0x80, %b0" : "+a"(a));
	expect("OUT and IN AL", a, PATTERN);
	out32(0xcf8, 0x80000000);
	expect("configuration address", in32(0xcf8), 0x80000000);
}

static void cpuid(void) {
	u64 a = UPPER | 0x80000001, b = ~0ull, c = ~0ull, d = ~0ull;
	asm volatile("cpuid" : "+a"(a), "+b"(b), "+c"(c), "+d"(d));
	expect("CPUID: upper halves", (a | b | c | d) >> 32, 0);
	expect("CPUID: SYSCALL, NX, LM", d & (1 << 11 | 1 << 20 | 1 << 29), 1 << 11 | 1 << 20 | 1 << 29);
	expect("CPUID: LAHF", c & 1, 1);
}

#define LOAD(instruction, address)                                          \
	({                                                                      \
		u64 loaded = PATTERN;                                               \
		asm volatile(instruction : "+a"(loaded) : "b"(address) : "r8", "r15", "rsi", "memory"); \
		loaded;                                                             \
	})

static void memory(void) {
	u64 version = *(volatile u32 *)APIC_VERSION;
	expect("APIC: version", version & 0xff, 0x15);
	/* Not there: all ones, in every width, from every kind of register. */
	expect("mov (%rbx), %al", LOAD("movb (%%rbx), %%al", NOWHERE), PATTERN | 0xff);
	expect("mov (%rbx), %ax", LOAD("movw (%%rbx), %%ax", NOWHERE), PATTERN | 0xffff);
	expect("mov (%rbx), %eax", LOAD("movl (%%rbx), %%eax", NOWHERE), 0xffffffff);
	expect("mov (%rbx), %rax", LOAD("movq (%%rbx), %%rax", NOWHERE), ~0ull);
	expect("mov (%rbx), %sil", LOAD("movq %%rax, %%rsi\n\tmovb (%%rbx), %%sil\n\tmovq %%rsi, %%rax", NOWHERE), PATTERN | 0xff);
	expect("movzbl", LOAD("movzbl (%%rbx), %%eax", NOWHERE), 0xff);
	expect("movzbq", LOAD("movzbq (%%rbx), %%rax", NOWHERE), 0xff);
	expect("movsbq", LOAD("movsbq (%%rbx), %%rax", NOWHERE), ~0ull);
	expect("movslq", LOAD("movslq (%%rbx), %%rax", APIC_VERSION), version);
	expect("add (%rbx), %rax", LOAD("addq (%%rbx), %%rax", NOWHERE), PATTERN - 1);
	expect("mov through %r15", LOAD("movq %%rbx, %%r15\n\tmovl (%%r15), %%r8d\n\tmovq %%r8, %%rax", APIC_VERSION), version);
	expect("mov in the upper half", LOAD("movl (%%rbx), %%eax", UPPER + APIC_VERSION), version);
	expect("mov with a short address", LOAD("movl (%%ebx), %%eax", UPPER << 32 | APIC_VERSION), version);
	expect("mov of an absolute address", LOAD("movabsl 0xffff8880fee00030, %%eax", 0), version);
	expect("cmp 0x60000000(%rip)", LOAD("cmpq $-1, near(%%rip)\n\tsete %%al\n\tmovzbl %%al, %%eax", 0), 1);
	/* Writes: what is not there takes none, the register of a device takes one of 32 bits. */
	*(volatile u64 *)NOWHERE = 5;
	expect("nothing stays nowhere", *(volatile u64 *)NOWHERE, ~0ull);
	asm volatile("movl $0x20, %%r9d\n\tmovl %%r9d, (%0)" : : "r"(TASK_PRIORITY) : "r9", "memory");
	expect("task priority", *(volatile u32 *)TASK_PRIORITY, 0x20);
	asm volatile("lock cmpxchg16b (%0)" : : "r"(NOWHERE), "a"(1ull), "d"(2ull), "b"(3ull), "c"(4ull) : "memory", "cc");
	/* What the emulator leaves to the processor, on tables of four levels. */
	u64 low, high;
	u64 cr4;
	asm volatile("movq %%cr4, %0\n\torq $0x600, %0\n\tmovq %0, %%cr4" : "=&r"(cr4));
	asm volatile("movdqu (%2), %%xmm9\n\tmovq %%xmm9, %0\n\tpsrldq $8, %%xmm9\n\tmovq %%xmm9, %1" : "=r"(low), "=r"(high) : "r"(UPPER + NOWHERE));
	expect("movdqu: low half", low, ~0ull);
	expect("movdqu: high half", high, ~0ull);
	asm volatile("movdqu %%xmm9, (%0)" : : "r"(NOWHERE) : "memory");
	u64 quotient;
	asm volatile("divq (%1)" : "=a"(quotient) : "r"(NOWHERE), "a"(~0ull), "d"(0ull) : "cc");
	expect("divq", quotient, 1);
	expect("an address that is not canonical", PROBE("movq (%%rbx), %%rax", : : "b"(0x800000000000ull) : "rax"), GP);
}
asm(".set near, 0x60000000");

#define STRING(instruction, index, start, count, port)                      \
	({                                                                      \
		u64 where = (u64)(start), left = (count);                           \
		asm volatile(instruction : "+" index(where), "+c"(left) : "d"(port) : "memory", "cc"); \
		rcx = left;                                                         \
		where;                                                              \
	})
static u64 rcx;

static void strings(void) {
	u64 upper = UPPER + (u64)buffer;
	expect("rep insb: rdi", STRING("rep insb", "D", upper + 16, 1000, 0x500), upper + 1016);
	expect("rep insb: rcx", rcx, 0);
	expect("rep insb: bytes", buffer[15] | buffer[16] << 8 | buffer[1015] << 16 | (u64)buffer[1016] << 24, 0xffff00);
	expect("rep insl: rdi", STRING("rep insl", "D", upper + 2000, 4, 0xcfc), upper + 2016);
	expect("rep insl: host bridge", *(u32 *)(buffer + 2000), in32(0xcfc));
	expect("addr32 insb: rdi", STRING("addr32 rep insb", "D", UPPER << 32 | (u64)buffer, UPPER << 32 | 3, 0x500), (u64)buffer + 3);
	expect("addr32 insb: rcx", rcx, 0);
	static const char text[] = "= text of REP OUTSB in 64-bit mode, longer than the sixteen bytes of a FIFO and than sixty-four\n";
	STRING("rep outsb", "S", UPPER + (u64)text, sizeof text - 1, 0x3f8);
	expect("rep stosq: rdi", STRING("rep stosq", "D", NOWHERE, 200, 0), NOWHERE + 1600);
	u64 from = NOWHERE, to = (u64)buffer, count = 100;
	asm volatile("rep movsq" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
	expect("rep movsq: rsi and rdi", from - NOWHERE == 800 && to - (u64)buffer == 800, 1);
	expect("rep movsq: words", ((u64 *)buffer)[0] & ((u64 *)buffer)[99], ~0ull);
}

static void msrs(void) {
	enum { EFER = 0xc0000080, STAR, LSTAR, CSTAR, FMASK, FS_BASE = 0xc0000100, GS_BASE, KERNEL_GS_BASE, TSC_AUX };
	expect("EFER", read_msr(EFER), 0x500);
	expect("EFER without LME", write_msr(EFER, 0x400), GP);
	expect("EFER with a bit that is reserved", write_msr(EFER, 0x502), GP);
	expect("EFER with SCE and NXE", write_msr(EFER, 0xd01), NONE);
	expect("EFER with SCE and NXE", read_msr(EFER), 0xd01);
	static const u64 values[][2] = {{STAR, PATTERN}, {LSTAR, UPPER}, {CSTAR, UPPER + 1}, {FMASK, 0x47700},
		{FS_BASE, UPPER + 2}, {GS_BASE, UPPER + 3}, {KERNEL_GS_BASE, UPPER + 4}, {0x277, 0x0407050600070106}, {0x2ff, 0}};
	for (u32 i = 0; i < sizeof values / sizeof *values; i++) {
		expect("WRMSR", write_msr(values[i][0], values[i][1]), NONE);
	}
	for (u32 i = 0; i < sizeof values / sizeof *values; i++) expect("RDMSR", read_msr(values[i][0]), values[i][1]);
	write_msr(0x277, 0x0007040600070406);
	write_msr(0x2ff, 0x806);
	expect("LSTAR that is not canonical", write_msr(LSTAR, 0x800000000000), GP);
	expect("PAT with a type that is none", write_msr(0x277, 2), GP);
	expect("SPEC_CTRL", write_msr(0x48, 1), GP);
	expect("PRED_CMD", write_msr(0x49, 1), GP);
	expect("TSC_AUX", write_msr(TSC_AUX, 0), NONE);
	u32 aux = 7;
	asm volatile("rdtscp" : "=c"(aux) : : "rax", "rdx");
	expect("RDTSCP", aux, 0);
	asm volatile("swapgs");
	expect("GS after SWAPGS", read_msr(GS_BASE), UPPER + 4);
	asm volatile("swapgs");
	static const u64 word = PATTERN;
	write_msr(GS_BASE, (u64)&word);
	u64 got;
	asm volatile("movq %%gs:0, %0" : "=r"(got));
	expect("through GS", got, PATTERN);
	/* By way of GS to where there is no RAM, and as a device's register. */
	write_msr(GS_BASE, APIC_VERSION - 0x10);
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
	write_msr(0xc0000081, (u64)(CODE_32 + 3) << 48 | (u64)CODE << 32);
	write_msr(0xc0000082, (u64)system_call);
	write_msr(0xc0000084, 0x200);
	for (u32 i = 0; i < 5; i++) PML4[0] |= 4, PDPT[0] |= 4, DIRECTORY[0] |= 4;
	asm volatile("mov %%cr3, %%rax\n\tmov %%rax, %%cr3" : : : "rax", "memory");
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
	asm volatile("movq %%cr0, %0\n\tmovq %%cr3, %1\n\tmovq %%cr4, %2" : "=r"(cr0), "=r"(cr3), "=r"(cr4));
	expect("CR0", cr0 & 0xe0000001, 0x80000001);
	expect("CR3", cr3, 0x4000);
	expect("CR4", cr4 & ~0x600, 0x20);
	expect("CR0 without PG, in 64-bit code", PROBE("movq %0, %%cr0", : : "r"(cr0 & ~(1ull << 31))), GP);
	expect("CR0 with bit 32", PROBE("movq %0, %%cr0", : : "r"(cr0 | 1ull << 32)), GP);
	expect("CR4 without PAE", PROBE("movq %0, %%cr4", : : "r"(cr4 & ~0x20ull)), GP);
	expect("CR4 with VMXE", PROBE("movq %0, %%cr4", : : "r"(cr4 | 1 << 13)), GP);
	asm volatile("movq %0, %%r12\n\tmovq %%r12, %%cr0" : : "r"(cr0 | 1 << 16) : "r12");
	asm volatile("movq %%cr0, %%r13\n\tmovq %%r13, %0" : "=r"(cr0) : : "r13");
	expect("CR0 with WP, by R12 and R13", cr0 >> 16 & 1, 1);
	asm volatile("movq %0, %%cr8" : : "r"(5ull));
	expect("CR8", read_cr8(), 5);
	expect("CR8 in the APIC", *(volatile u32 *)TASK_PRIORITY, 0x50);
	expect("CR8 of five bits", PROBE("movq %0, %%cr8", : : "r"(0x10ull)), GP);
	asm volatile("movq %0, %%cr8" : : "r"(0ull));
	u64 one = PATTERN, dr;
	asm volatile("movq %1, %%dr0\n\tmovq %%dr0, %0" : "=r"(dr) : "r"(UPPER));
	expect("DR0", dr, UPPER);
	expect("DR7 with bit 32", PROBE("movq %0, %%dr7", : : "r"(1ull << 32 | 0x400)), GP);
	asm volatile("movq %0, %%dr0" : : "r"(0ull));
	(void)one;
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
volatile u32 narrow_in, narrow_version, narrow_efer, off_efer, off_cr3, off_version, off_port, in_efer, narrow_word;
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
		: "rax", "rcx", "rdx", "r15", "memory", "cc");
	expect("IN AL in compatibility mode", narrow_in, 0x11ff);
	expect("APIC in compatibility mode", narrow_version & 0xff, 0x15);
	expect("MOVZX in compatibility mode", narrow_word, 0xffff);
	expect("EFER in compatibility mode", narrow_efer, 0xd01);
	expect("EFER without paging", off_efer, 0x901);
	expect("CR3 without paging", off_cr3, 0x4000);
	expect("APIC without paging", off_version & 0xff, 0x15);
	expect("IN EAX without paging", off_port, 0xffffffff);
	expect("EFER again", in_efer, 0xd01);
	expect("R15 after all of it", r15, PATTERN);
}

static void guest(void) {
	PML4[0x111] = PML4[0];
	ports();
	cpuid();
	memory();
	strings();
	msrs();
	system_calls();
	control_registers();
	for (u32 i = 0; i < 100; i++) modes();
}
