/* Hardware task switches do not exist in long mode (SDM volume 3, "Task Management in 64-Bit Mode"): jumps and calls to a TSS or
 * by a task gate, interrupts and exceptions by one, and IRET from a nested task are #GP, of 64-bit and of 32-bit code. With a task
 * gate for the double fault there is a triple fault. A word of memory tells the second start from the first. */
#include "guest.h"

enum { OTHER_TASK = 0x50, TASK_GATE = 0x60, IDT = 2, EXT = 1, NESTED = 1 << 14, VECTOR = 0x2f };

static u64 larger_gdt[13];
static u32 other_task[26] = {[25] = 0x680000};

/* For JMP and CALL, with an offset of 32 bits. */
struct pointer { u32 offset; u16 selector; } __attribute__((packed));
static const struct pointer to_task = {0, OTHER_TASK}, to_gate = {0, TASK_GATE};

static u64 task_gate(u8 rights) {
	return (u64)OTHER_TASK << 16 | (u64)rights << 40;
}

/* #GP with this error code. */
#define REFUSES(what, code, ...)                                            \
	do {                                                                    \
		error_code = 0xdead;                                                \
		expect(what, PROBE(__VA_ARGS__), GP);                               \
		expect(what ": error code", error_code, code);                      \
	} while (0)

static void in_64_bit_code(void) {
	REFUSES("JMP to a TSS", OTHER_TASK, "ljmp *%0", : : "m"(to_task) : "memory");
	REFUSES("CALL of a TSS", OTHER_TASK, "lcall *%0", : : "m"(to_task) : "memory");
	REFUSES("JMP by a task gate", TASK_GATE, "ljmp *%0", : : "m"(to_gate) : "memory");
	REFUSES("CALL by a task gate", TASK_GATE, "lcall *%0", : : "m"(to_gate) : "memory");
	REFUSES("INT by a task gate", VECTOR * 8 + IDT, "int %0", : : "i"(VECTOR) : "memory");
	idt[2 * UD] = task_gate(0x85);
	REFUSES("an exception by a task gate", UD * 8 + IDT + EXT, "ud2", : : : "memory");
	set_gate(UD, stubs + 16 * UD, 0x8e);
	REFUSES("IRET of a nested task", 0, "pushf; orl %0, (%%rsp); popf; iretq", : : "i"(NESTED) : "memory", "cc");
	asm volatile("pushf; andl %0, (%%rsp); popf" : : "i"(~NESTED) : "memory", "cc");
}

/* The same in compatibility mode; what it finds for each in turn. */
static volatile u32 vectors[4], codes[4];
asm("compatibility:\n"
    "	ljmp *narrow_pointer\n"
    "	.code32\n"
    "narrow:\n"
    "	xor %ebx, %ebx\n"
    "	mov $1f, %ecx\n"
    "	mov %ecx, resume\n"
    "	ljmp $0x50, $0\n"
    "1:	call note\n"
    "	movl $1f, resume\n"
    "	lcall $0x60, $0\n"
    "1:	call note\n"
    "	movl $1f, resume\n"
    "	int $0x2f\n"
    "1:	call note\n"
    "	movl $1f, resume\n"
    "	pushf\n"
    "	orl $0x4000, (%esp)\n"
    "	popf\n"
    "	iret\n"
    "1:	pushf\n"
    "	andl $~0x4000, (%esp)\n"
    "	popf\n"
    "	call note\n"
    "	ljmp $0x10, $wide\n"
    "note:\n"
    "	mov fault, %eax\n"
    "	mov %eax, vectors(,%ebx,4)\n"
    "	mov error_code, %eax\n"
    "	mov %eax, codes(,%ebx,4)\n"
    "	movl $0x100, fault\n"
    "	inc %ebx\n"
    "	ret\n"
    "	.code64\n"
    "wide:\n"
    "	ret\n"
    "narrow_pointer:\n"
    "	.long narrow\n"
    "	.word 0x20\n");

static void in_32_bit_code(void) {
	static const u32 expected[] = {OTHER_TASK, TASK_GATE, VECTOR * 8 + IDT, 0};
	fault = NONE;
	asm volatile("call compatibility" : : : "rax", "rbx", "rcx", "memory", "cc");
	for (u32 i = 0; i < 4; i++) {
		expect("a switch in compatibility mode", vectors[i], GP);
		expect("a switch in compatibility mode: error code", codes[i], expected[i]);
	}
}

static void guest(void) {
	if (KEPT == 0x7a5c) return;
	KEPT = 0x7a5c;
	for (u32 i = 0; i < sizeof gdt / sizeof *gdt; i++) larger_gdt[i] = gdt[i];
	larger_gdt[OTHER_TASK / 8] = task_descriptor(other_task);
	larger_gdt[TASK_GATE / 8] = task_gate(0x85);
	struct { u16 limit; void *base; } __attribute__((packed)) pointer = {sizeof larger_gdt - 1, larger_gdt};
	asm volatile("lgdt %0" : : "m"(pointer));
	idt[2 * VECTOR] = task_gate(0xe5);
	in_64_bit_code();
	in_32_bit_code();
	expect("the other task's registers", other_task[8], 0);
	/* No gate for #GP, and one to a task for the double fault that this is: #GP in the delivery of that. */
	if (failures) return;
	print("guest: triple fault\n");
	idt[2 * UD] = idt[2 * GP] = 0;
	idt[2 * DF] = task_gate(0x85);
	asm volatile("ud2");
}
