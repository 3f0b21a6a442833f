/* What Linux's own work costs: a program without a C library, which is init's child in the initramfs. Each row is 2,000
 * rounds (fewer where one is long) by RDTSC, printed as "= NAME MIN MEDIAN P99" in hexadecimal. Given the name of a
 * disk, it reads from that instead. */
#include "program.h"

enum { FORKS = 200, SPINS = 20, CHARACTERS = 1024, READS = 4 };
enum { FORK = 2, READ = 3, OPEN = 5, WAITPID = 7, PIPE = 42, GETPPID = 64, YIELD = 158, MMAP2 = 192 };

static void system_call(void) {
	for (u32 i = 0; i < ROUNDS; i++) {
		u32 start = tsc();
		call(GETPPID, 0, 0, 0);
		samples[i] = tsc() - start;
	}
	row("getppid", "", ROUNDS);
}

static void page_fault(void) {
	int address = 0, length = ROUNDS * 4096;
	/* Six arguments: the last in EBP. Private, anonymous memory for reading and writing. */
	asm volatile("push %%ebp; xor %%ebp, %%ebp; int $0x80; pop %%ebp"
		: "=a"(address) : "a"(MMAP2), "b"(0), "c"(length), "d"(3), "S"(0x22), "D"(-1) : "memory");
	for (u32 i = 0; i < ROUNDS; i++) {
		volatile char *page = (char *)address + 4096 * i;
		u32 start = tsc();
		*page = 1;
		samples[i] = tsc() - start;
	}
	row("page_fault", "", ROUNDS);
}

static void fork_exit(void) {
	for (u32 i = 0; i < FORKS; i++) {
		u32 start = tsc();
		int child = call(FORK, 0, 0, 0);
		if (!child) call(EXIT, 0, 0, 0);
		call(WAITPID, child, 0, 0);
		samples[i] = tsc() - start;
	}
	row("fork_exit", "", FORKS);
}

/* A byte to another process and back. */
static void pipe_ping_pong(void) {
	int there[2], back[2];
	char byte = 0;
	call(PIPE, (int)there, 0, 0);
	call(PIPE, (int)back, 0, 0);
	int child = call(FORK, 0, 0, 0);
	if (!child) {
		for (u32 i = 0; i < ROUNDS; i++) {
			call(READ, there[0], (int)&byte, 1);
			call(WRITE, back[1], (int)&byte, 1);
		}
		call(EXIT, 0, 0, 0);
	}
	for (u32 i = 0; i < ROUNDS; i++) {
		u32 start = tsc();
		call(WRITE, there[1], (int)&byte, 1);
		call(READ, back[0], (int)&byte, 1);
		samples[i] = tsc() - start;
	}
	call(WAITPID, child, 0, 0);
	row("pipe_ping_pong", "", ROUNDS);
}

/* Two processes that yield to each other: there and back is two switches. */
static void context_switch(void) {
	int child = call(FORK, 0, 0, 0);
	if (!child)
		for (u32 i = 0; i < 2 * ROUNDS; i++) call(YIELD, 0, 0, 0);
	if (!child) call(EXIT, 0, 0, 0);
	for (u32 i = 0; i < ROUNDS; i++) {
		u32 start = tsc();
		call(YIELD, 0, 0, 0);
		samples[i] = (tsc() - start) / 2;
	}
	call(WAITPID, child, 0, 0);
	row("context_switch", "", ROUNDS);
}

/* Ten million instructions. */
static void spin(void) {
	for (u32 i = 0; i < SPINS; i++) {
		u32 count = 5000000, start = tsc();
		asm volatile("1: dec %0; jnz 1b" : "+r"(count));
		samples[i] = tsc() - start;
	}
	row("spin", "", SPINS);
}

/* A character on the console, as the driver sends it: from the write until all are out. */
static void print_character(void) {
	char text[CHARACTERS];
	for (u32 i = 0; i < CHARACTERS; i++) text[i] = i % 64 == 63 ? '\n' : '.';
	for (u32 i = 0; i < 4; i++) {
		u32 start = tsc();
		call(WRITE, 1, (int)text, CHARACTERS);
		drain();
		samples[i] = (tsc() - start) / CHARACTERS;
	}
	row("print_character", "", 4);
}

/* 16 MB from a disk, each time the next. */
static void read_disk(const char *name) {
	static char buffer[1 << 16];
	int disk = call(OPEN, (int)name, 0, 0);
	for (u32 i = 0; i < READS; i++) {
		u32 start = tsc();
		for (u32 part = 0; part < 256; part++)
			if (call(READ, disk, (int)buffer, sizeof buffer) != sizeof buffer) call(EXIT, 1, 0, 0);
		samples[i] = tsc() - start;
	}
	row("disk_read", "", READS);
}

void begin(u32 *stack) {
	drain();
	if (stack[0] == 2) {
		read_disk((const char *)stack[2]);
		drain();
		call(EXIT, 0, 0, 0);
	}
	system_call();
	page_fault();
	fork_exit();
	pipe_ping_pong();
	context_switch();
	spin();
	print_character();
	drain();
	call(EXIT, 0, 0, 0);
}
