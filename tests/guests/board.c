/* What exits cost on the machine itself, for people to read: the rows of `exits` (bench.h), of an interrupt and of a virtqueue, as a
 * table on the console with the least and the median of each, in cycles of the TSC. systems/bench.toml boots it; the last line says
 * that the table is complete. */
#include "guest.h"

#define WIDTH ""
#ifdef __x86_64__
#define POINTER "rdi"
#else
#define POINTER "edi"
#endif
#define ROUNDS 4000
#include "bench.h"
#include "bench-events.h"

/* As under Linux, the address without RAM is behind a page table, and what the TLB has for code is a large page. */
static uword table[4096 / sizeof(uword)] __attribute__((aligned(4096)));

#ifdef __x86_64__

enum { EFER = 0xc0000080, STAR, LSTAR, FMASK = 0xc0000084, SCE = 1 };

static void like_linux(void) {
	table[0] = (NOWHERE & ~0xffful) | 3;
	DIRECTORY[NOWHERE >> 21] = (uword)table | 3;
	/* With these, the kernel switches the MSRs of SYSCALL at each change of guests. */
	wrmsr(EFER, rdmsr(EFER) | SCE);
	for (u32 i = 0; i < 3; i++) wrmsr((u32[]){STAR, LSTAR, FMASK}[i], 0x1111);
}

#else

static u32 directory[1024] __attribute__((aligned(4096)));

static void like_linux(void) {
	directory[0] = 0x83;
	directory[NOWHERE >> 22] = (u32)table | 3;
	table[0] = (NOWHERE & ~0xffful) | 3;
	asm volatile("mov %%cr4, %%eax; or $0x10, %%eax; mov %%eax, %%cr4; mov %0, %%cr3;"
		"mov %%cr0, %%eax; or $0x80000000, %%eax; mov %%eax, %%cr0" : : "r"(directory) : "eax", "memory");
}

#endif

/* How many ticks the TSC has in a millisecond: CPUID leaf 0x15, from which vmm-server tells its guests the rate in Hz. */
static u32 ticks_in_a_millisecond(void) {
	u32 a = 0x15, b, c = 0, d;
	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return a ? c / 1000 * b / a : 0;
}

static u32 has_entropy_device(void) {
	out32(0xcf8, 0x80000000 | 17 << 11);
	return in32(0xcfc) == 0x10051af4;
}

/* COUNT of the 8254 is a little less than a millisecond: by 182 in 1,193,182. */
static u32 length_of_count(u32 millisecond) {
	return millisecond - millisecond / (PIT_HZ / 182);
}

static void events(u32 millisecond) {
	static const u8 pic[] = {0x20, 0x04, 0x01, 0xee};  /* vector, cascade, 8086 mode, mask: the timer and COM1 */
	set_gate(0x20, woken, 0x8e);
	set_gate(0x24, ended, 0x8e);
	out8(0x20, 0x11);
	for (u32 i = 0; i < sizeof pic; i++) out8(0x21, pic[i]);
	out8(0x3fc, 8);
	if (millisecond) halt_wake(length_of_count(millisecond));
	inject_eoi();
	out8(0x21, 0xff);
}

/* In ten columns, on the right. */
static void print_number(u32 number) {
	char text[11] = "          ";
	u32 at = 10;
	do text[--at] = '0' + number % 10; while (number /= 10);
	print(text);
}

static void print_name(const char *name) {
	u32 length = 0;
	while (name[length]) length++;
	print(name);
	for (; length < 20; length++) print(" ");
}

static void print_table(u32 millisecond) {
	print("row                     least    median\n");
	for (u32 i = 0; i < row_count; i++) {
		print_name(rows[i].name);
		print_number(rows[i].least);
		print_number(rows[i].median);
		print("\n");
	}
	print_name("TSC, cycles in 1 ms");
	print_number(millisecond);
	print("\nrepetitions         ");
	print_number(ROUNDS);
	print("\nbench: the table is complete\n");
}

/* A second, in which a slow console prints the table: the VMM's lines about a guest that ends would be among it. */
static void wait_for_table(u32 millisecond) {
	for (u32 i = 0; i < 10; i++) {
		for (u32 start = tsc(); tsc() - start < 100 * millisecond;) {}
	}
}

static void guest(void) {
	u32 millisecond = ticks_in_a_millisecond();
	like_linux();
	wait_for_console();
	exits();
	if (has_entropy_device()) virtqueue();
	events(millisecond);
	print_table(millisecond);
	wait_for_table(millisecond);
}
