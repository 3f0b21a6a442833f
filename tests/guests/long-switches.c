/* Mode switches under load: thousands of rounds from 64-bit mode through compatibility mode, protected mode without paging, with
 * 32-bit paging, virtual-8086 mode, PAE paging, and back, while the timer interrupts in each of them. Every mode asks a port
 * and the local APIC, and has to find there what the others find. */
#include "guest.h"

enum { ROUNDS = 3000, PERIOD = 597 };
enum { TASK_32 = 0x08 };

/* Where the timer has interrupted: at the start and the end of a round, and between them in the order of the modes. */
enum { LONG, COMPATIBILITY, UNPAGED, PAGED, VIRTUAL_8086, PAE, BACK, MODES };
static const char *const names[] = {
	"ticks in 64-bit mode", "ticks in compatibility mode", "ticks without paging", "ticks with 32-bit paging",
	"ticks in virtual-8086 mode", "ticks with PAE paging", "ticks on the way back",
};
volatile u32 mode, counts[MODES];
/* What a port and the APIC's version register have read in a mode. */
volatile u32 ports[MODES], versions[MODES];
/* How long to stay in each mode. */
volatile u32 spins;

u32 directory[1024] __attribute__((aligned(4096)));
u64 pointers[4] __attribute__((aligned(32))), directories[2048] __attribute__((aligned(4096)));
static u64 narrow_idt[0x31];
/* Its bitmap gives virtual-8086 mode the ports below 0x100. */
static u32 narrow_task[35] = {[2] = DATA, [25] = 0x680000, [34] = 0xff};
volatile u32 narrow_stack;
struct { u16 limit; u64 base; } __attribute__((packed)) wide_pointer, narrow_pointer;

/* The next mode, with interrupts on: `spins` times a port, and the APIC's version. EAX, ECX, EDX and ESI are lost. */
#define STAY                                                                \
	"	incl mode\n"                                                        \
	"	sti\n"                                                              \
	"	mov spins, %ecx\n"                                                  \
	"1:	in $0x80, %al\n"                                                    \
	"	pause\n"                                                            \
	"	loop 1b\n"                                                          \
	"	mov mode, %esi\n"                                                   \
	"	movzbl %al, %eax\n"                                                 \
	"	mov %eax, ports(,%esi,4)\n"                                         \
	"	mov $0xfee00030, %edx\n"                                            \
	"	mov (%edx), %eax\n"                                                 \
	"	mov %eax, versions(,%esi,4)\n"                                      \
	"	cli\n"
#define CONTROL(register, clear, set)                                       \
	"	mov %" register ", %eax\n"                                          \
	"	and $~" clear ", %eax\n"                                            \
	"	or $" set ", %eax\n"                                                \
	"	mov %eax, %" register "\n"
#define EFER(clear, set)                                                    \
	"	mov $0xc0000080, %ecx\n"                                            \
	"	rdmsr\n"                                                            \
	"	and $~" clear ", %eax\n"                                            \
	"	or $" set ", %eax\n"                                                \
	"	wrmsr\n"
#define CR3(table) "	mov $" table ", %eax\n	mov %eax, %cr3\n"
#define PG "0x80000000"
#define LME "0x100"
#define PSE_BIT "0x10"
#define PAE_BIT "0x20"

extern u8 wide_tick[], narrow_tick[], narrow_fault[], leave_8086[], code_8086[], code_8086_end[];
void go_round(void);
asm("go_round:\n"
    "	push %rbp\n"
    "	push %rbx\n"
    "	ljmp *narrow_address\n"
    "narrow_address:\n"
    "	.long compatibility\n"
    "	.word 0x20\n"
    "	.code32\n"
    "compatibility:\n"
    STAY
    /* Out of long mode: LME stays set. */
    CONTROL("cr0", PG, "0")
    "	lidt narrow_pointer\n"
    "	andb $~2, gdt + 0x0d\n"
    "	mov $0x08, %eax\n"
    "	ltr %ax\n"
    STAY
    EFER(LME, "0")
    CONTROL("cr4", PAE_BIT, PSE_BIT)
    CR3("directory")
    CONTROL("cr0", "0", PG)
    STAY
    "	mov %esp, narrow_stack\n"
    "	pushl $0\n"
    "	pushl $0\n"
    "	pushl $0x2000\n"
    "	pushl $0x2000\n"
    "	pushl $0x2000\n"
    "	pushl $0x8000\n"
    "	pushl $0x23202\n" /* VM, IOPL 3, IF */
    "	pushl $0x2000\n"
    "	pushl $0\n"
    "	incl mode\n"
    "	iret\n"
    "leave_8086:\n"
    "	mov $0x18, %ecx\n"
    "	mov %ecx, %ds\n"
    "	mov %ecx, %es\n"
    "	mov %ecx, %fs\n"
    "	mov %ecx, %gs\n"
    "	mov narrow_stack, %esp\n"
    "	mov %eax, ports + 4 * 4\n"
    "	mov %edx, versions + 4 * 4\n"
    CONTROL("cr0", PG, "0")
    CONTROL("cr4", PSE_BIT, PAE_BIT)
    CR3("pointers")
    CONTROL("cr0", "0", PG)
    STAY
    CONTROL("cr0", PG, "0")
    CR3("0x4000")
    EFER("0", LME)
    CONTROL("cr0", "0", PG)
    "	lidt wide_pointer\n"
    STAY
    "	ljmp $0x10, $wide\n"
    "	.code64\n"
    "wide:\n"
    "	andb $~2, gdt + 0x3d\n"
    "	mov $0x38, %eax\n"
    "	ltr %ax\n"
    "	movl $0, mode\n"
    "	sti\n"
    "	pop %rbx\n"
    "	pop %rbp\n"
    "	ret\n"
    "wide_tick:\n"
    "	push %rax\n"
    "	mov mode, %eax\n"
    "	incl counts(,%eax,4)\n"
    "	mov $0x20, %al\n"
    "	out %al, $0x20\n"
    "	pop %rax\n"
    "	iretq\n"
    "	.code32\n"
    /* In virtual-8086 mode, DS has become null. */
    "narrow_tick:\n"
    "	push %eax\n"
    "	mov %ss:mode, %eax\n"
    "	incl %ss:counts(,%eax,4)\n"
    "	mov $0x20, %al\n"
    "	out %al, $0x20\n"
    "	pop %eax\n"
    "	iret\n"
    "narrow_fault:\n"
    "	mov $0x3f8, %edx\n"
    "	mov $'F', %al\n"
    "	out %al, %dx\n"
    "	cli\n"
    "	hlt\n"
    "	.code16\n"
    "code_8086:\n"
    "	mov %cs:0x7ffc, %cx\n"
    "1:	in $0x80, %al\n"
    "	loop 1b\n"
    "	movzbl %al, %eax\n"
    "	mov $0x15, %edx\n"
    "	int $0x30\n"
    "code_8086_end:\n"
    "	.code64\n");

static u64 narrow_gate(void *to, u8 rights) { return (gate(to, rights) & ~0xffff0000ull) | (u64)CODE_32 << 16; }

static void lay_out(void) {
	for (u32 i = 0; i < 1024; i++) directory[i] = i << 22 | 0xe7;
	for (u32 i = 0; i < 2048; i++) directories[i] = (u64)i << 21 | 0xe7;
	for (u32 i = 0; i < 4; i++) pointers[i] = (u64)(directories + 512 * i) | 1;
	for (u32 vector = 0; vector < 32; vector++) narrow_idt[vector] = narrow_gate(narrow_fault, 0x8e);
	narrow_idt[0x20] = narrow_gate(narrow_tick, 0x8e);
	narrow_idt[0x30] = narrow_gate(leave_8086, 0xee);
	narrow_task[1] = (u32)(u64)trap_stack + sizeof trap_stack;
	gdt[TASK_32 / 8] = task_descriptor(narrow_task) + 0x21;
	wide_pointer.limit = sizeof idt - 1, wide_pointer.base = (u64)idt;
	narrow_pointer.limit = sizeof narrow_idt - 1, narrow_pointer.base = (u64)narrow_idt;
	volatile u8 *to = (volatile u8 *)0x20000;
	for (u8 *from = code_8086; from < code_8086_end; from++) *to++ = *from;
}

static void guest(void) {
	lay_out();
	start_timer();
	set_gate(0x20, wide_tick, 0x8e);
	/* Two a millisecond. */
	out8(0x40, PERIOD & 0xff);
	out8(0x40, PERIOD >> 8);
	u32 version = *(volatile u32 *)0xfee00030ull, wrong = 0;
	expect("the APIC's version", version & 0xff, 0x15);
	u64 efer = 0, cr0, cr3, cr4;
	for (u32 round = 0; round < ROUNDS; round++) {
		u8 port = round * 7;
		out8(0x80, port);
		*(volatile u16 *)0x27ffc = spins = 1 + round * 37 % 64;
		go_round();
		for (u32 i = COMPATIBILITY; i < MODES; i++) {
			wrong += ports[i] != port || versions[i] != (i == VIRTUAL_8086 ? 0x15 : version);
		}
	}
	asm volatile("cli; mov %%cr0, %0; mov %%cr3, %1; mov %%cr4, %2" : "=r"(cr0), "=r"(cr3), "=r"(cr4));
	asm volatile("rdmsr" : "+a"(efer) : "c"(0xc0000080) : "rdx");
	expect("what a port or the APIC has read wrong", wrong, 0);
	expect("CR0 at the end", cr0 & 0x80000001, 0x80000001);
	expect("CR3 at the end", cr3, 0x4000);
	expect("CR4 at the end", cr4, 0x20);
	expect("EFER at the end", efer, 0x500);
	for (u32 i = 0; i < MODES; i++) expect(names[i], counts[i] != 0, 1);
	FACT("ticks", counts[0] + counts[1], counts[2], counts[3], counts[4], counts[5], counts[6]);
}
