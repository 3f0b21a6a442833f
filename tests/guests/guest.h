/* What every tiny guest is made of: it starts by one of Linux's boot protocols, prints over COM1 by polling, catches exceptions,
 * and ends with `cli; hlt`, which switches the guest off. The lines that begin with "= " are facts for the test to judge;
 * `expect` judges here.
 *
 * One source file, one ELF: include this and write `void guest(void)`. Nothing here uses the stack of a caller, the FPU
 * or a C library. Compiled for 32 bits, a guest starts by the 32-bit protocol: flat segments, paging and interrupts off, EIP at
 * `_start`. For 64 bits, by the 64-bit protocol: 64-bit code on the loader's identity tables, RIP at `_start`. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
/* As wide as a general register. */
typedef unsigned long uword;

/* What differs: names of registers, in an `asm` with operands by R, and bytes of a general register. */
#ifdef __x86_64__
#define AX "%rax"
#define BP "%rbp"
#define CX "%rcx"
#define DX "%rdx"
#define SP "%rsp"
#define R(name) "%%r" #name
#define IRET "iretq"
#define WORD "8"
#else
#define AX "%eax"
#define BP "%ebp"
#define CX "%ecx"
#define DX "%edx"
#define SP "%esp"
#define R(name) "%%e" #name
#define IRET "iret"
#define WORD "4"
#endif

/* Selectors of our own GDT; the first two are those of the boot protocols. SYSRET takes user segments in the order of 64 bits. */
#ifdef __x86_64__
enum { CODE = 0x10, DATA = 0x18, CODE_32 = 0x20, USER_DATA = 0x2b, USER_CODE = 0x33, TASK = 0x38, CODE_16 = 0x48 };
#else
enum { CODE = 0x10, DATA = 0x18, USER_CODE = 0x23, USER_DATA = 0x2b, TASK = 0x30, OTHER_TASK = 0x38 };
#endif

/* Exception vectors (SDM volume 3, "Exception and Interrupt Reference"); NONE where there was none. */
enum { DB = 1, UD = 6, NM = 7, DF = 8, TS = 10, GP = 13, PF = 14, NONE = 0x100 };

static void guest(void);

/* The last exception, its error code, and where to go on after it. All addresses of a guest are below 4 GiB. */
volatile u32 fault, error_code, resume;
u32 kernel_stack_pointer, user_entry;
u8 stack[8192] __attribute__((aligned(16)));
u8 user_stack[4096] __attribute__((aligned(16)));
u8 trap_stack[4096] __attribute__((aligned(16)));

/* Each of the 32 stubs pushes the error code that the processor did not, and its vector; `trap` notes both and goes
 * on at `resume`. */
asm(".globl _start\n"
    "_start:\n"
    "	mov $stack + 8192, " SP "\n"
    "	cld\n"
    "	call begin\n"
    "1:	cli\n"
    "	hlt\n"
    "	jmp 1b\n"
    ".balign 16\n"
    "stubs:\n"
    ".set vector, 0\n"
    ".rept 32\n"
    "	.balign 16\n"
    "	.if vector != 8 && vector != 17 && vector != 21 && (vector < 10 || vector > 14)\n"
    "	push $0\n"
    "	.endif\n"
    "	push $vector\n"
    "	jmp trap\n"
    "	.set vector, vector + 1\n"
    ".endr\n"
    "trap:\n"
    "	push " AX "\n"
    "	mov " WORD "(" SP "), %eax\n"
    "	mov %eax, fault\n"
    "	mov 2*" WORD "(" SP "), %eax\n"
    "	mov %eax, error_code\n"
    "	mov resume, %eax\n"
    "	mov " AX ", 3*" WORD "(" SP ")\n"
    "	pop " AX "\n"
    "	add $2*" WORD ", " SP "\n"
    "	" IRET "\n"
    /* Calls `user_entry` at privilege level 3. */
    "enter_user_mode:\n"
    "	push " BP "\n"
    "	mov %esp, kernel_stack_pointer\n"
    "	mov $0x2b, %ecx\n"
    "	mov %ecx, %ds\n"
    "	mov %ecx, %es\n"
    "	movl $user_exit, user_stack + 4088\n"
    "	push " CX "\n"
    "	push $user_stack + 4088\n"
    "	pushf\n"
#ifdef __x86_64__
    "	push $0x33\n"
#else
    "	push $0x23\n"
#endif
    "	mov user_entry, %eax\n"
    "	push " AX "\n"
    "	" IRET "\n"
    "user_exit:\n"
    "	int $0x30\n"
    "back_in_kernel_mode:\n"
    "	mov kernel_stack_pointer, %esp\n"
    "	mov $0x18, %ecx\n"
    "	mov %ecx, %ds\n"
    "	mov %ecx, %es\n"
    "	pop " BP "\n"
    "	ret\n");
extern u8 stubs[], back_in_kernel_mode[];

/* Calls `what` at privilege level 3. */
static inline void in_user_mode(void (*what)(void)) {
	user_entry = (u32)(uword)what;
	asm volatile("call enter_user_mode" : : : "eax", "ebx", "ecx", "edx", "esi", "edi", "memory", "cc"
#ifdef __x86_64__
		, "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"
#endif
	);
}

#define IN(width, letter)                                                   \
	static inline u##width in##width(u16 port) {                            \
		u##width value;                                                     \
		asm volatile("in" letter " %1, %0" : "=a"(value) : "d"(port));      \
		return value;                                                       \
	}                                                                       \
	static inline void out##width(u16 port, u##width value) {               \
		asm volatile("out" letter " %0, %1" : : "a"(value), "d"(port));     \
	}
IN(8, "b")
IN(16, "w")
IN(32, "l")

static inline void print(const char *text) {
	for (; *text; text++) {
		while (!(in8(0x3fd) & 0x20)) {}
		out8(0x3f8, *text);
	}
}

static inline void print_hex(uword value) {
	int shift = 8 * sizeof value - 4;
	while (shift > 0 && !(value >> shift)) shift -= 4;
	for (; shift >= 0; shift -= 4) print((char[]){"0123456789abcdef"[value >> shift & 15], 0});
}

/* A fact: its name and up to six numbers. */
#define FACT(name, ...)                                                     \
	do {                                                                    \
		u32 numbers[] = {__VA_ARGS__};                                      \
		print("= " name);                                                   \
		for (u32 i = 0; i < sizeof numbers / 4; i++) { print(" "); print_hex(numbers[i]); } \
		print("\n");                                                        \
	} while (0)

/* The upper half of a register of 64 bits; nothing where there is none. */
#define HIGH ((uword)~0ull << 16 << 16)

static u32 failures;

static inline void expect(const char *what, uword got, uword want) {
	if (got == want) return;
	if (failures++ > 20) return;
	print("wrong: ");
	print(what);
	print(" gives ");
	print_hex(got);
	print(", not ");
	print_hex(want);
	print("\n");
}

/* Executes one instruction; what it leaves is the vector of its exception, or NONE. */
#define PROBE(instruction, ...)                                             \
	({                                                                      \
		asm volatile("movl $0x100, fault\n\tmovl $1f, resume\n\t" instruction "\n1:" __VA_ARGS__); \
		fault;                                                              \
	})
#define NOTHING : : : "eax", "ebx", "ecx", "edx", "memory", "cc"

/* The vector of its exception, or NONE. */
static inline u32 wrmsr(u32 msr, u64 value) {
	return PROBE("wrmsr", : : "a"((u32)value), "d"((u32)(value >> 32)), "c"(msr) : "memory");
}

static inline u64 rdmsr(u32 msr) {
	u32 low, high;
	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (u64)high << 32 | low;
}

#ifdef __x86_64__

/* Where the loader has its page tables, and what it maps: see vmm-server's linux/low.rs. */
#define PML4 ((volatile u64 *)0x4000)
#define PDPT ((volatile u64 *)0x5000)
#define DIRECTORY ((volatile u64 *)0x6000)

static u64 gdt[10] = {
	[CODE / 8] = 0x00af9b000000ffff,
	[DATA / 8] = 0x00cf93000000ffff,
	[CODE_32 / 8] = 0x00cf9b000000ffff,
	[USER_DATA / 8] = 0x00cff3000000ffff,
	[USER_CODE / 8] = 0x00affb000000ffff,
	[CODE_16 / 8] = 0x008f9b000000ffff,
};
static u64 idt[2 * 0x31];
/* Task-state segment of 64 bits: RSP0 is at 4, the offset of the I/O bitmap in the last word. */
static u32 task[26] = {[25] = 0x680000};

#else

static u64 gdt[8] = {[2] = 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff};
static u64 idt[0x31];
/* Task-state segments (SDM volume 3, "Task-State Segment"): that of this program, and one to switch to. */
static u32 task[26] = {[2] = DATA, [25] = 0x680000}, other_task[26] = {[25] = 0x680000};

#endif

static inline u64 task_descriptor(void *at) {
	u64 base = (uword)at;
	return 0x67 | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
}

static inline u64 gate(void *to, u8 rights) {
	u64 offset = (uword)to;
	return (offset & 0xffff) | CODE << 16 | (u64)rights << 40 | (offset >> 16 & 0xffff) << 48;
}

/* Has `to` handle a vector. The upper half of an address is zero. */
static inline void set_gate(u32 vector, void *to, u8 rights) {
	idt[vector * (sizeof(uword) / 4)] = gate(to, rights);
}

static inline void load_idt(void *base, u16 limit) {
	struct { u16 limit; void *base; } __attribute__((packed)) pointer = {limit, base};
	asm volatile("lidt %0" : : "m"(pointer));
}

static inline void prepare(void) {
#ifdef __x86_64__
	/* All of the lowest 4 GiB is open to user mode. */
	PML4[0] |= 4;
	for (u32 i = 0; i < 4; i++) PDPT[i] |= 4;
	for (u32 i = 0; i < 2048; i++) DIRECTORY[i] |= 4;
	asm volatile("mov %%cr3, %%rax; mov %%rax, %%cr3" : : : "rax", "memory");
	*(u64 *)(task + 1) = (u64)trap_stack + sizeof trap_stack;
#else
	task[1] = (u32)trap_stack + sizeof trap_stack;
	gdt[OTHER_TASK / 8] = task_descriptor(other_task);
#endif
	gdt[TASK / 8] = task_descriptor(task);
	struct { u16 limit; void *base; } __attribute__((packed)) pointer = {sizeof gdt - 1, gdt};
	asm volatile("lgdt %0\n\tltr %w1" : : "m"(pointer), "r"(TASK));
	for (u32 vector = 0; vector < 32; vector++) set_gate(vector, stubs + 16 * vector, 0x8e);
	set_gate(0x30, back_in_kernel_mode, 0xee);
	load_idt(idt, sizeof idt - 1);
}

static inline void unexpected(void) {
	print("wrong: exception ");
	print_hex(fault);
	print("\n");
	for (;;) asm volatile("cli; hlt");
}

/* How often the timer has interrupted. */
volatile u32 ticks;
extern u8 tick[];
asm("tick:\n"
    "	push " AX "\n"
    "	incl ticks\n"
    "	mov $0x20, %al\n"
    "	out %al, $0x20\n"
    "	pop " AX "\n"
    "	" IRET "\n");

/* The timer every 10 ms, and no other interrupt. */
static inline void start_timer(void) {
	static const u8 pic[] = {0x20, 0x04, 0x01, 0xfe};  /* vector, cascade, 8086 mode, mask */
	set_gate(0x20, tick, 0x8e);
	out8(0x20, 0x11);
	for (u32 i = 0; i < sizeof pic; i++) out8(0x21, pic[i]);
	out8(0x43, 0x34);
	out8(0x40, 11932 & 0xff);
	out8(0x40, 11932 >> 8);
}

/* A word of memory that the image does not cover: it keeps its value when the guest is reset. */
#define KEPT (*(volatile u32 *)0x300000)

void begin(void) {
	prepare();
	resume = (u32)(uword)unexpected;
	guest();
	print(failures ? "guest: wrong\n" : "guest: right\n");
}
