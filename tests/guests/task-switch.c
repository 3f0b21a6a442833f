/* Hardware task switches: by a far jump and back, by INT through a task gate and back by IRET, and for a double fault on a
 * stack that is not there, which Linux for i386 takes that way. */
#include "guest.h"

static u32 directory[1024] __attribute__((aligned(4096)));
static u8 other_stack[4096] __attribute__((aligned(16)));
static volatile u32 there, code, cr2, eip, esp, link;

extern u8 other_entry[], by_gate[], double_fault[], overflow[], recovered[];
asm("other_entry:\n"
    "	incl there\n"
    "	ljmp $0x30, $0\n"
    "by_gate:\n"
    "	incl there\n"
    "	iret\n"
    "	jmp by_gate\n"
    "double_fault:\n"
    "	popl code\n"
    "	mov %cr2, %eax\n"
    "	mov %eax, cr2\n"
    "	mov task + 0x20, %eax\n"
    "	mov %eax, eip\n"
    "	mov task + 0x38, %eax\n"
    "	mov %eax, esp\n"
    "	movzwl other_task, %eax\n"
    "	mov %eax, link\n"
    /* The task that has faulted goes on elsewhere, with its stack from before. */
    "	movl $recovered, task + 0x20\n"
    "	mov kernel_stack_pointer, %eax\n"
    "	mov %eax, task + 0x38\n"
    "	iret\n");

static void set_other(void *entry) {
	for (u32 i = 8; i < 25; i++) other_task[i] = 0;
	other_task[7] = (u32)directory;
	other_task[8] = (u32)entry;
	other_task[9] = 2;
	other_task[14] = (u32)other_stack + sizeof other_stack;
	other_task[18] = DATA, other_task[19] = CODE, other_task[20] = DATA, other_task[21] = DATA;
}

static void page(void) {
	directory[0] = 0x83;
	asm volatile("mov %%cr4, %%eax\n\tor $0x10, %%eax\n\tmov %%eax, %%cr4\n\t"
		"mov %0, %%cr3\n\tmov %%cr0, %%eax\n\tor $0x80000000, %%eax\n\tmov %%eax, %%cr0"
		: : "r"(directory) : "eax", "memory");
	task[7] = (u32)directory;
}

static void fault_twice(void) {
	asm volatile("mov %%esp, kernel_stack_pointer\n\t"
		"mov $0x500000, %%esp\n"
		"overflow:\n\t"
		"push %%eax\n"
		"recovered:" : : : "eax", "ebx", "ecx", "edx", "esi", "edi", "memory", "cc");
}

static void guest(void) {
	set_other(other_entry);
	asm volatile("ljmp $0x38, $0" : : : "memory", "cc");
	expect("jumps", there, 1);
	page();
	set_other(by_gate);
	idt[0x30] = (u64)OTHER_TASK << 16 | 0xe5ull << 40;
	for (u32 i = 0; i < 3; i++) asm volatile("int $0x30" : : : "memory", "cc");
	expect("jumps and interrupts", there, 4);
	set_other(double_fault);
	idt[DF] = (u64)OTHER_TASK << 16 | 0x85ull << 40;
	code = 0x55;
	fault_twice();
	expect("the double fault's code", code, 0);
	expect("cr2", cr2, 0x4ffffc);
	expect("eip", eip, (u32)overflow);
	expect("esp", esp, 0x500000);
	expect("the task before", link, TASK);
}
