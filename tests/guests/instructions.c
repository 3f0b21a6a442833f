/* Instructions that exit, or that a guest has no business with, at privilege levels 0 and 3: each has the exception that
 * a processor without the feature gives, or none. */
#include "guest.h"

static struct {
	const char *instruction;
	u32 got, want;
} results[64];
static u32 count;

#define GIVES(name, vector, ...)                                            \
	do {                                                                    \
		results[count].got = PROBE(name, __VA_ARGS__);                      \
		results[count].want = vector;                                       \
		results[count++].instruction = name;                                \
	} while (0)
#define PLAIN(name, vector) GIVES(name, vector, NOTHING)
/* EAX: the address of some memory; ECX and EDX: zero. */
#define MEMORY(name, vector) GIVES(name, vector, : : "a"(area), "c"(0), "d"(0) : "memory", "cc")

static u32 area[4];
static u32 hypercall;

static void hidden(void) {
	PLAIN("vmlaunch", UD);
	PLAIN("vmresume", UD);
	PLAIN("vmxoff", UD);
	PLAIN("vmfunc", UD);
	MEMORY("vmxon (%%eax)", UD);
	MEMORY("vmclear (%%eax)", UD);
	MEMORY("vmptrld (%%eax)", UD);
	MEMORY("vmptrst (%%eax)", UD);
	MEMORY("vmread %%ecx, (%%eax)", UD);
	MEMORY("vmwrite (%%eax), %%ecx", UD);
	MEMORY("invept (%%eax), %%ecx", UD);
	MEMORY("invvpid (%%eax), %%ecx", UD);
	PLAIN("xor %%eax, %%eax; xor %%ebx, %%ebx; getsec", UD);
	MEMORY("monitor", UD);
	PLAIN("xor %%eax, %%eax; xor %%ecx, %%ecx; mwait", UD);
	PLAIN("xor %%ecx, %%ecx; xgetbv", UD);
	PLAIN("rdtscp", UD);
	MEMORY("invpcid (%%eax), %%ecx", UD);
	PLAIN("rsm", UD);
	PLAIN("ud2", UD);
}

static void allowed_anywhere(void) {
	PLAIN("pause", NONE);
	PLAIN("rdtsc", NONE);
	PLAIN("rdrand %%eax", NONE);
	PLAIN("mov $0xd, %%eax; mov $1, %%ecx; cpuid", NONE);
	GIVES("vmcall", NONE, : "=a"(hypercall) : "a"(77) : "memory", "cc");
}

static void kernel(void) {
	hidden();
	allowed_anywhere();
	PLAIN("invd", NONE);
	PLAIN("wbinvd", NONE);
	MEMORY("invlpg (%%eax)", NONE);
	PLAIN("clts", NONE);
	PLAIN("mov %%cr0, %%eax", NONE);
	PLAIN("mov %%dr7, %%eax", NONE);
	PLAIN("in $0x80, %%al", NONE);
	PLAIN("mov $0x10, %%ecx; rdmsr", NONE);
	PLAIN("xor %%ecx, %%ecx; rdpmc", GP);
	PLAIN("xor %%ecx, %%ecx; xor %%edx, %%edx; mov $1, %%eax; xsetbv", UD);
}

static void user(void) {
	hidden();
	allowed_anywhere();
	PLAIN("invd", GP);
	PLAIN("wbinvd", GP);
	MEMORY("invlpg (%%eax)", GP);
	PLAIN("clts", GP);
	PLAIN("mov %%cr0, %%eax", GP);
	PLAIN("mov %%dr7, %%eax", GP);
	PLAIN("in $0x80, %%al", GP);
	MEMORY("outsb", GP);
	PLAIN("mov $0x10, %%ecx; rdmsr", GP);
	PLAIN("xor %%ecx, %%ecx; rdpmc", GP);
	PLAIN("hlt", GP);
	PLAIN("cli", GP);
}

static void judge(const char *level) {
	u32 before = failures;
	for (u32 i = 0; i < count; i++) expect(results[i].instruction, results[i].got, results[i].want);
	if (failures != before) print(level);
	FACT("instructions", count);
	count = 0;
}

static void guest(void) {
	kernel();
	judge("wrong at privilege level 0\n");
	expect("an unknown hypercall", hypercall, -1000);
	in_user_mode(user);
	judge("wrong at privilege level 3\n");
	expect("a hypercall of a user program", hypercall, -1);
}
