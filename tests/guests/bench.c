/* What an exit of a 32-bit guest costs (see bench.h). Paging is on, as under Linux: code in a large page, the address without
 * RAM behind a page table. */
#include "guest.h"

#define WIDTH ""
#define POINTER "edi"
#include "bench.h"
#include "bench-events.h"

static u32 directory[1024] __attribute__((aligned(4096))), table[1024] __attribute__((aligned(4096)));

/* The functions that are passed through, by their device numbers here: a network card of which each access is made by
 * pci-server, a USB controller and a network card that are handed over. */
enum { MEDIATED = 1, DIRECT = 2, INTERRUPTING = 3 };

/* First ports of the mediated device and of the direct one, and the memory of the card that interrupts, as the firmware
 * has placed them. */
u32 mediated, direct, card;

/* The base address register `bar` of a function, whose ports and memory it has answer. */
static u32 enable(u32 device, u32 bar) {
	out32(0xcf8, 0x80000004 | device << 11);
	out16(0xcfc, 3);
	out32(0xcf8, 0x80000010 + (device << 11) + (bar << 2));
	return in32(0xcfc) & ~15;
}

/* Maps the memory of a device, one to one. */
static u32 map(u32 memory) {
	directory[memory >> 22] = (memory & ~0x3fffff) | 0x83;
	return memory;
}

static void devices(void) {
	u32 memory = map(enable(MEDIATED, 0));
	mediated = enable(MEDIATED, 1);
	direct = enable(DIRECT, 4);
	ROW("mediated_port", NOWHERE, "mov mediated, %%edx", "in %%dx, %%eax");
	ROW("mediated_mmio", memory + 8, "", "mov (%%edi), %%eax");
	ROW("direct_port", NOWHERE, "mov direct, %%edx", "in %%dx, %%ax");
	card = map(enable(INTERRUPTING, 0));
	ROW("direct_mmio", card + 8, "", "mov (%%edi), %%eax");
}

/* The network card's interrupt mask. Its interrupt causes are set at 0xc8, and read at 0xc0, which clears them (Intel 8254x
 * software developer's manual, section 13.4). */
enum { IMS = 0xd0 };

/* When the last service of the card was over. */
volatile u32 served;
static u32 services[ROUNDS];
extern u8 interrupted[];
asm("interrupted:\n"
    "	push %eax\n"
    "	push %edx\n"
    "	rdtsc\n"
    "	mov %eax, moment\n"
    "	mov card, %edx\n"
    "	mov 0xc0(%edx), %eax\n"
    "	mov $0x20, %al\n"
    "	out %al, $0xa0\n"
    "	out %al, $0x20\n"
    "	rdtsc\n"
    "	mov %eax, served\n"
    "	pop %edx\n"
    "	pop %eax\n"
    "	iret\n");

/* From the write that has the card interrupt, on a level line of its own, to the handler; and until after the end of that
 * interrupt, with which the line is acknowledged. */
static void device_irq(void) {
	mark("device_irq");
	for (u32 round = 0; round < ROUNDS; round++) {
		u32 start;
		moment = 0;
		asm volatile("sti; rdtsc; mov %%eax, %0; movl $1, 0xc8(%1); 1: cmpl $0, served; je 1b; cli"
			: "=&S"(start) : "b"(card) : "eax", "edx", "memory");
		samples[round] = moment - start;
		services[round] = served - start;
		served = 0;
	}
	end_row("device_irq");
	for (u32 round = 0; round < ROUNDS; round++) samples[round] = services[round];
	end_row("device_irq_eoi");
}

static void interrupts(void) {
	static const u8 pic[] = {0x20, 0x04, 0x01, 0xee};  /* vector, cascade, 8086 mode, mask */
	static const u8 second[] = {0x28, 0x02, 0x01};
	out32(0xcf8, 0x8000003c | INTERRUPTING << 11);
	u32 line = in8(0xcfc);
	idt[0x20] = gate(woken, 0x8e);
	idt[0x24] = gate(ended, 0x8e);
	idt[0x20 + line % 16] = gate(interrupted, 0x8e);
	out8(0x20, 0x11);
	for (u32 i = 0; i < sizeof pic; i++) out8(0x21, pic[i]);
	out8(0xa0, 0x11);
	for (u32 i = 0; i < sizeof second; i++) out8(0xa1, second[i]);
	out8(0xa1, 0xff);
	out8(0x3fc, 8);
	halt_wake(COUNT * 50000000ull / PIT_HZ);
	inject_eoi();
	u32 mask = ~(1 << line | 1 << 2);
	out8(0x21, mask);
	out8(0xa1, mask >> 8);
	*(volatile u32 *)(card + IMS) = 1;
	device_irq();
	out8(0x21, 0xff);
}

static void turn_paging_on(void) {
	directory[0] = 0x83;
	directory[NOWHERE >> 22] = (u32)table | 3;
	table[0] = (NOWHERE & ~0xfff) | 3;
	asm volatile("mov %%cr4, %%eax; or $0x10, %%eax; mov %%eax, %%cr4; mov %0, %%cr3;"
		"mov %%cr0, %%eax; or $0x80000000, %%eax; mov %%eax, %%cr0" : : "r"(directory) : "eax", "memory");
}

static void guest(void) {
	turn_paging_on();
	wait_for_console();
	exits();
	devices();
	virtqueue();
	interrupts();
	print_rows();
}
