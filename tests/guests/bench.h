/* What the guests that measure exits share, of 32 bits (bench.c) and in long mode (long-bench.c): the ticks (RDTSC) from before
 * an instruction that exits until after it, ROUNDS times each, or 2,000. Facts: for each row its least, its median and its 99th
 * percentile. They are printed at the end, so that no console interrupt falls among them. Before including this, define WIDTH,
 * which ends the rows' names, and POINTER, the register that holds an address. */
#pragma once

#ifndef ROUNDS
#define ROUNDS 2000
#endif
enum { ROWS = 32 };
#define NOWHERE 0xe0000004ul

static u32 samples[ROUNDS];
static struct { const char *name; u32 least, median, p99; } rows[ROWS];
static u32 row_count;

/* Nearly all samples of a row are equal, so this is quick. */
static void sort(void) {
	for (u32 i = 1; i < ROUNDS; i++) {
		u32 sample = samples[i], j = i;
		for (; j > 0 && samples[j - 1] > sample; j--) samples[j] = samples[j - 1];
		samples[j] = sample;
	}
}

static void end_row(const char *name) {
	sort();
	rows[row_count].name = name;
	rows[row_count].least = samples[0];
	rows[row_count].median = samples[ROUNDS / 2];
	rows[row_count].p99 = samples[ROUNDS * 99 / 100];
	row_count++;
}

/* The low half of the TSC suffices for differences. */
static inline u32 tsc(void) {
	u32 low;
	asm volatile("rdtsc" : "=a"(low) : : "edx");
	return low;
}

/* A line in the emulator's log, with its tick: where in a trace the row is. */
static void mark(const char *name) {
	for (; *name; name++) out8(0x402, *name);
	out8(0x402, '\n');
}

#define ROW(name, address, prepare, instruction)                                     \
	do {                                                                    \
		mark(name WIDTH);                                                         \
		for (u32 round = 0; round < ROUNDS; round++)                        \
			asm volatile("rdtsc; mov %%eax, %%esi; " prepare "; " instruction "; rdtsc; sub %%esi, %%eax" \
				: "=a"(samples[round]) : "D"(address) : "ebx", "ecx", "edx", "esi", "memory"); \
		end_row(name WIDTH);                                                \
	} while (0)

static void exits(void) {
	ROW("cpuid", NOWHERE, "xor %%eax, %%eax", "cpuid");
	ROW("in_unhandled", NOWHERE, "", "in $0xe0, %%al");
	ROW("out_unhandled", NOWHERE, "", "out %%al, $0xe0");
	ROW("uart_lsr", NOWHERE, "mov $0x3fd, %%edx", "in %%dx, %%al");
	out8(0x70, 0x0b);
	ROW("rtc", NOWHERE, "", "in $0x71, %%al");
	ROW("pit_read", NOWHERE, "", "in $0x42, %%al");
	/* Counter 2 again, with its gate open, as a rate generator. */
	out8(0x61, 1);
	out8(0x43, 0xb4);
	out8(0x42, 0);
	out8(0x42, 0);
	ROW("pit_running", NOWHERE, "", "in $0x42, %%al");
	out8(0x61, 0);
	ROW("pic_mask", NOWHERE, "", "in $0x21, %%al");
	ROW("pci_addr", NOWHERE, "mov $0xcf8, %%edx; mov $0x80000000, %%eax", "out %%eax, %%dx");
	ROW("pci_data", NOWHERE, "mov $0xcfc, %%edx", "in %%dx, %%eax");
	ROW("rdmsr", NOWHERE, "mov $0x1a0, %%ecx", "rdmsr");
	ROW("mmio_read", NOWHERE, "", "mov (%%" POINTER "), %%eax");
	ROW("mmio_write", NOWHERE, "", "mov %%eax, (%%" POINTER ")");
}

/* Lets the console print what the VMM has told it: its interrupts would fall among the first samples. */
static void wait_for_console(void) {
	for (u32 start = tsc(); tsc() - start < 10000000;) {}
}

static inline void print_rows(void) {
	for (u32 i = 0; i < row_count; i++) {
		print("= ");
		print(rows[i].name);
		for (u32 j = 0; j < 3; j++) {
			print(" ");
			print_hex((&rows[i].least)[j]);
		}
		print("\n");
	}
}
