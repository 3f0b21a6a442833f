/* What every tiny guest in long mode is made of: it starts by the Linux 64-bit boot protocol (64-bit code, flat segments, the
 * loader's identity tables, interrupts off, RIP at `_start`). For the rest see guest.h: facts, `expect`, how it ends. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

/* Selectors of our own GDT; the first two are those of the boot protocol. SYSRET takes user segments in this order. */
enum { CODE = 0x10, DATA = 0x18, CODE_32 = 0x20, USER_DATA = 0x2b, USER_CODE = 0x33, TASK = 0x38, CODE_16 = 0x48 };

/* Exception vectors; NONE where there was none. */
enum { DB = 1, UD = 6, GP = 13, PF = 14, NONE = 0x100 };

/* Where the loader has its page tables, and what it maps: see vmm-server's linux/low.rs. */
#define PML4 ((volatile u64 *)0x4000)
#define PDPT ((volatile u64 *)0x5000)
#define DIRECTORY ((volatile u64 *)0x6000)

static void guest(void);

/* The last exception, and where to go on after it. */
volatile u64 fault, error_code, resume;
u8 stack[8192] __attribute__((aligned(16)));
u8 user_stack[4096] __attribute__((aligned(16)));
u8 trap_stack[4096] __attribute__((aligned(16)));

asm(".globl _start\n"
    "_start:\n"
    "	mov $stack + 8192, %rsp\n"
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
    "	push %rax\n"
    "	mov 8(%rsp), %rax\n"
    "	mov %rax, fault\n"
    "	mov 16(%rsp), %rax\n"
    "	mov %rax, error_code\n"
    "	mov resume, %rax\n"
    "	mov %rax, 24(%rsp)\n"
    "	pop %rax\n"
    "	add $16, %rsp\n"
    "	iretq\n");
extern u8 stubs[];

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

static inline void print_hex(u64 value) {
	int shift = 60;
	while (shift > 0 && !(value >> shift)) shift -= 4;
	for (; shift >= 0; shift -= 4) print((char[]){"0123456789abcdef"[value >> shift & 15], 0});
}

static u32 failures;

static inline void expect(const char *what, u64 got, u64 want) {
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
		asm volatile("movq $0x100, fault\n\tmovq $1f, resume\n\t" instruction "\n1:" __VA_ARGS__); \
		fault;                                                              \
	})

static inline u64 read_msr(u32 number) {
	u64 low = ~0ull, high = ~0ull;
	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number));
	expect("RDMSR: upper halves", low >> 32 | high >> 32, 0);
	return high << 32 | low;
}

/* The vector of its exception, or NONE. */
static inline u64 write_msr(u32 number, u64 value) {
	return PROBE("wrmsr", : : "c"(number), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static u64 gdt[10] = {
	[CODE / 8] = 0x00af9b000000ffff,
	[DATA / 8] = 0x00cf93000000ffff,
	[CODE_32 / 8] = 0x00cf9b000000ffff,
	[USER_DATA / 8] = 0x00cff3000000ffff,
	[USER_CODE / 8] = 0x00affb000000ffff,
	[CODE_16 / 8] = 0x008f9b000000ffff,
};
static u64 idt[2 * 0x20];
/* Task-state segment of 64 bits: RSP0 is at 4, the offset of the I/O bitmap in the last word. */
static u32 task[26] = {[25] = 0x680000};

static inline void load_idt(void) {
	struct { u16 limit; u64 base; } __attribute__((packed)) pointer = {sizeof idt - 1, (u64)idt};
	asm volatile("lidt %0" : : "m"(pointer));
}

static inline void prepare(void) {
	*(u64 *)(task + 1) = (u64)trap_stack + sizeof trap_stack;
	u64 base = (u64)task;
	gdt[TASK / 8] = 0x67 | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
	gdt[TASK / 8 + 1] = base >> 32;
	struct { u16 limit; u64 base; } __attribute__((packed)) pointer = {sizeof gdt - 1, (u64)gdt};
	asm volatile("lgdt %0\n\tltr %w1" : : "m"(pointer), "r"(TASK));
	for (u32 vector = 0; vector < 0x20; vector++) {
		u64 offset = (u64)(stubs + 16 * vector);
		idt[2 * vector] = (offset & 0xffff) | CODE << 16 | 0x8eull << 40 | (offset >> 16 & 0xffff) << 48;
		idt[2 * vector + 1] = offset >> 32;
	}
	load_idt();
}

static inline void unexpected(void) {
	print("wrong: exception ");
	print_hex(fault);
	print("\n");
	for (;;) asm volatile("cli; hlt");
}

void begin(void) {
	prepare();
	resume = (u64)unexpected;
	guest();
	print(failures ? "guest: wrong\n" : "guest: right\n");
}
