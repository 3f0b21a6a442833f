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
/* Of a processor with long mode, as CPUID has them. */
static u32 has_rdtscp, has_invpcid;

static void look(void) {
	u32 eax = 0x80000001, ebx, ecx = 0, edx;
	asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	has_rdtscp = edx >> 27 & 1;
	eax = 7, ecx = 0;
	asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	has_invpcid = ebx >> 10 & 1;
}

static void hidden(u32 privileged) {
	PLAIN("vmlaunch", UD);
	PLAIN("vmresume", UD);
	PLAIN("vmxoff", UD);
	PLAIN("vmfunc", UD);
	MEMORY("vmxon (" R(ax) ")", UD);
	MEMORY("vmclear (" R(ax) ")", UD);
	MEMORY("vmptrld (" R(ax) ")", UD);
	MEMORY("vmptrst (" R(ax) ")", UD);
	MEMORY("vmread " R(cx) ", (" R(ax) ")", UD);
	MEMORY("vmwrite (" R(ax) "), " R(cx), UD);
	MEMORY("invept (" R(ax) "), " R(cx), UD);
	MEMORY("invvpid (" R(ax) "), " R(cx), UD);
	PLAIN("xor %%eax, %%eax; xor %%ebx, %%ebx; getsec", UD);
	MEMORY("monitor", UD);
	PLAIN("xor %%eax, %%eax; xor %%ecx, %%ecx; mwait", UD);
	PLAIN("xor %%ecx, %%ecx; xgetbv", UD);
	PLAIN("xor %%ecx, %%ecx; xor %%edx, %%edx; mov $1, %%eax; xsetbv", UD);
	PLAIN("rdtscp", has_rdtscp ? NONE : UD);
	MEMORY("invpcid (" R(ax) "), " R(cx), has_invpcid ? privileged : UD);
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
	hidden(NONE);
	allowed_anywhere();
	PLAIN("invd", NONE);
	PLAIN("wbinvd", NONE);
	MEMORY("invlpg (" R(ax) ")", NONE);
	PLAIN("clts", NONE);
	PLAIN("mov %%cr0, " R(ax), NONE);
	PLAIN("mov %%dr7, " R(ax), NONE);
	PLAIN("in $0x80, %%al", NONE);
	PLAIN("mov $0x10, %%ecx; rdmsr", NONE);
	PLAIN("xor %%ecx, %%ecx; rdpmc", GP);
}

static void user(void) {
	hidden(GP);
	allowed_anywhere();
	PLAIN("invd", GP);
	PLAIN("wbinvd", GP);
	MEMORY("invlpg (" R(ax) ")", GP);
	PLAIN("clts", GP);
	PLAIN("mov %%cr0, " R(ax), GP);
	PLAIN("mov %%dr7, " R(ax), GP);
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
	look();
	kernel();
	judge("wrong at privilege level 0\n");
	expect("an unknown hypercall", hypercall, (u32)-1000);
	in_user_mode(user);
	judge("wrong at privilege level 3\n");
	expect("a hypercall of a user program", hypercall, (u32)-1);
}
