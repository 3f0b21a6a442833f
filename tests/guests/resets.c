/* Every way to be reset, one after the other; a word of memory counts them. */
#include "guest.h"

static u32 page_directory[1024] __attribute__((aligned(4096)));

static void pulse_by_string(void) {
	static const u8 commands[] = {0xfe, 0x00};
	const u8 *from = commands;
	u32 count = 2;
	asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(0x64) : "memory");
}

static void leave_protected_mode(void) {
	u32 cr0;
	asm volatile("mov %%cr0, %0\n\tand $~1, %0\n\tmov %0, %%cr0" : "=&r"(cr0));
}

static void call_a_task(void) {
	asm volatile("lcall $0x38, $0");
}

/* A task gate for #UD. */
static void fault_to_a_task(void) {
	idt[UD] = (u64)OTHER_TASK << 16 | 0x85ull << 40;
	asm volatile("ud2");
}

static void idt_in_nowhere(void) {
	load_idt((void *)0xe0000000, 0x7ff);
	asm volatile("ud2");
}

/* Page tables without RAM: the first directory entry maps the 4 MiB that we are in, the next has its table nowhere. */
static void page_table_in_nowhere(void) {
	u32 cr;
	page_directory[0] = 0x83;
	page_directory[1] = 0xe0000003;
	asm volatile("mov %%cr4, %0\n\tor $0x10, %0\n\tmov %0, %%cr4" : "=&r"(cr));
	asm volatile("mov %0, %%cr3" : : "r"(page_directory) : "memory");
	asm volatile("mov %%cr0, %0\n\tor $0x80000000, %0\n\tmov %0, %%cr0" : "=&r"(cr) : : "memory");
	*(volatile u32 *)0x400000;
}

static void guest(void) {
	switch (KEPT++) {
	case 0: out8(0xcf9, 0x02); out8(0xcf9, 0x06); break;
	case 1: out8(0x64, 0xfe); break;
	case 2: out8(0x92, 0x03); break;
	case 3: out8(0x64, 0xd1); out8(0x60, 0xfe); break;
	case 4: pulse_by_string(); break;
	case 5: leave_protected_mode(); break;
	case 6: call_a_task(); break;
	case 7: fault_to_a_task(); break;
	case 8: idt_in_nowhere(); break;
	case 9: page_table_in_nowhere(); break;
	case 10: return;
	}
	expect("the guest goes on after reset", KEPT, 0);
	KEPT = 10;
}
