/* Every way to be reset, one after the other; a word of memory counts them. */
#include "guest.h"

static void full_reset(void) {
	out8(0xcf9, 0x02);
	out8(0xcf9, 0x06);
}

static void pulse(void) {
	out8(0x64, 0xfe);
}

static void fast_reset(void) {
	out8(0x92, 0x03);
}

static void output_port(void) {
	out8(0x64, 0xd1);
	out8(0x60, 0xfe);
}

static void pulse_by_string(void) {
	static const u8 commands[] = {0xfe, 0x00};
	const u8 *from = commands;
	u32 count = 2;
	asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(0x64) : "memory");
}

static void idt_in_nowhere(void) {
	load_idt((void *)0xe0000000, 0x7ff);
	asm volatile("ud2");
}

#ifdef __x86_64__

/* By way of compatibility mode, and of protected mode without paging. */
static void leave_protected_mode(void) {
	asm volatile("ljmp *pointer\n"
		"pointer:	.long narrow\n\t.word %c0\n\t"
		".code32\n"
		"narrow:	mov %%cr0, %%eax\n\t"
		"and $0x7fffffff, %%eax\n\tmov %%eax, %%cr0\n\t"
		"and $~1, %%eax\n\tmov %%eax, %%cr0\n\t"
		"hlt\n\t"
		".code64" : : "i"(CODE_32));
}

static void page_table_in_nowhere(void) {
	PML4[1] = 0xe0000003;
	*(volatile u32 *)(1ull << 39);
}

#else

static u32 page_directory[1024] __attribute__((aligned(4096)));

static void leave_protected_mode(void) {
	u32 cr0;
	asm volatile("mov %%cr0, %0\n\tand $~1, %0\n\tmov %0, %%cr0" : "=&r"(cr0));
}

/* A switch to a TSS that is not one. In long mode there are no task switches: see long-task-switch.c. */
static void call_a_task(void) {
	asm volatile("lcall $0x38, $0");
}

/* A task gate for #UD. */
static void fault_to_a_task(void) {
	idt[UD] = (u64)OTHER_TASK << 16 | 0x85ull << 40;
	asm volatile("ud2");
}

/* The first directory entry maps the 4 MiB that we are in, the next has its table nowhere. */
static void page_table_in_nowhere(void) {
	u32 cr;
	page_directory[0] = 0x83;
	page_directory[1] = 0xe0000003;
	asm volatile("mov %%cr4, %0\n\tor $0x10, %0\n\tmov %0, %%cr4" : "=&r"(cr));
	asm volatile("mov %0, %%cr3" : : "r"(page_directory) : "memory");
	asm volatile("mov %%cr0, %0\n\tor $0x80000000, %0\n\tmov %0, %%cr0" : "=&r"(cr) : : "memory");
	*(volatile u32 *)0x400000;
}

#endif

/* In the order of the test's lines. */
static void (*const ways[])(void) = {full_reset, pulse, fast_reset, output_port, pulse_by_string, leave_protected_mode,
#ifdef __i386__
	call_a_task, fault_to_a_task,
#endif
	idt_in_nowhere, page_table_in_nowhere};

static void guest(void) {
	enum { COUNT = sizeof ways / sizeof *ways };
	u32 n = KEPT++;
	if (n == COUNT) return;
	if (n < COUNT) ways[n]();
	expect("the guest goes on after reset", n, COUNT);
	KEPT = COUNT;
}
