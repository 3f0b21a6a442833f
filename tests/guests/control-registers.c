/* CR0, CR3, CR4 and the debug registers: what is written reads back, what no processor takes is #GP, and paging goes on
 * and off in both its modes. */
#include "guest.h"

enum { PE = 1, TS_BIT = 8, ET = 0x10, NW = 1 << 29, CD = 1 << 30, PG = 1 << 31, PSE = 0x10, PAE = 0x20 };

static u32 directory[1024] __attribute__((aligned(4096)));
static u64 pointers[4] __attribute__((aligned(32)));
static u64 pae_directory[512] __attribute__((aligned(4096)));

#define READ(name) ({ u32 value; asm volatile("mov %%" name ", %0" : "=r"(value) : : "memory"); value; })
#define WRITE(name, value) PROBE("mov %0, %%" name, : : "r"(value) : "memory")

static void cr0(void) {
	u32 start = READ("cr0");
	expect("cr0 at the start, PE PG CD NW", start & (PE | PG | CD | NW), PE);
	expect("cr0: CD and NW", WRITE("cr0", start | CD | NW), NONE);
	expect("cr0: CD and NW read", READ("cr0") & (CD | NW), CD | NW);
	expect("cr0: CD", WRITE("cr0", start | CD), NONE);
	expect("cr0: NW without CD", WRITE("cr0", start | NW), GP);
	expect("cr0: CD stays", READ("cr0") & (CD | NW), CD);
	expect("cr0: PG without PE", WRITE("cr0", (start | PG) & ~PE), GP);
	expect("cr0: back", WRITE("cr0", start), NONE);
	expect("cr0: as at the start", READ("cr0"), start);
	expect("cr0: TS", WRITE("cr0", start | TS_BIT), NONE);
	expect("cr0: TS read", READ("cr0"), start | TS_BIT);
	expect("fninit with TS", PROBE("fninit", : : : "memory"), NM);
	expect("clts", PROBE("clts", : : : "memory"), NONE);
	expect("fninit", PROBE("fninit", : : : "memory"), NONE);
	expect("cr0 after clts", READ("cr0"), start & ~TS_BIT);
	expect("lmsw: TS", PROBE("lmsw %w0", : : "r"(start | TS_BIT) : "memory"), NONE);
	expect("cr0 after lmsw", READ("cr0"), start | TS_BIT);
	expect("lmsw: PE stays", PROBE("lmsw %w0", : : "r"(start & ~PE) : "memory"), NONE);
	expect("cr0 after lmsw without PE", READ("cr0"), start & ~TS_BIT);
	u32 word = 0;
	asm volatile("smsw %0" : "=r"(word));
	expect("smsw", word & 0xffff, start & 0xffff & ~TS_BIT);
}

static u32 has_xsave(void) {
	u32 a = 1, b, c, d;
	asm volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	return c >> 26 & 1;
}

static void other_control(void) {
	expect("cr2", WRITE("cr2", 0x1234567), NONE);
	expect("cr2 read", READ("cr2"), 0x1234567);
	expect("cr3 without paging", WRITE("cr3", 0xabcde000), NONE);
	expect("cr3 without paging read", READ("cr3"), 0xabcde000);
	expect("cr4 at the start", READ("cr4"), 0);
	static const u8 refused[] = {13, 14, 17, 18, 22, 23, 31};  /* VMXE, SMXE, PCIDE, OSXSAVE, PKE, CET */
	for (u32 i = 0; i < sizeof refused; i++) {
		if (refused[i] == 18 && has_xsave()) continue;
		expect("cr4: a bit that is hidden", WRITE("cr4", 1u << refused[i]), GP);
	}
	expect("cr4 after that", READ("cr4"), 0);
	for (u32 bit = 0; bit < 10; bit++) {
		expect("cr4: a bit", WRITE("cr4", 1u << bit), NONE);
		expect("cr4: a bit read", READ("cr4"), 1u << bit);
	}
	expect("cr4: none", WRITE("cr4", 0), NONE);
}

/* Maps the lowest 4 MiB to themselves, and 16 MiB to the same memory. */
static void paging(void) {
	u32 start = READ("cr0");
	volatile u32 *here = &KEPT, *there = (volatile u32 *)(0x1000000 + (u32)&KEPT);
	*here = 0x12345678;
	directory[0] = directory[4] = 0x83;
	WRITE("cr4", PSE);
	WRITE("cr3", directory);
	expect("paging on", WRITE("cr0", start | PG), NONE);
	expect("paging: cr0", READ("cr0"), start | PG);
	expect("paging: memory", *there, 0x12345678);
	expect("paging: cr3", READ("cr3"), (u32)directory);
	expect("paging: a page that is not there", PROBE("movl $0, 0x1400000", : : : "memory"), PF);
	expect("paging: its address", READ("cr2"), 0x1400000);
	expect("paging off", WRITE("cr0", start), NONE);
	expect("paging: nothing there", *there, 0xffffffff);

	pae_directory[0] = pae_directory[8] = 0x83;
	pointers[0] = (u32)pae_directory | 1;
	WRITE("cr4", PAE);
	WRITE("cr3", pointers);
	pointers[2] = 3;
	expect("paging with a bad pointer", WRITE("cr0", start | PG), GP);
	expect("paging with a bad pointer: cr0", READ("cr0"), start);
	pointers[2] = 0;
	pae_directory[1] = 0x200083;
	expect("PAE paging on", WRITE("cr0", start | PG), NONE);
	expect("PAE paging: memory by another address", *(volatile u32 *)0x1100000, *(volatile u32 *)0x100000);
	expect("PAE paging: a page that is not there", PROBE("movl $0, 0x1400000", : : : "memory"), PF);
	expect("PAE paging off", WRITE("cr0", start), NONE);
	WRITE("cr4", 0);
}

static void debug(void) {
	expect("dr6 at the start", READ("dr6"), 0xffff0ff0);
	expect("dr7 at the start", READ("dr7"), 0x400);
	WRITE("dr0", 0x11111111);
	WRITE("dr1", 0x22222222);
	WRITE("dr2", 0x33333333);
	WRITE("dr3", 0x44444444);
	expect("dr0", READ("dr0"), 0x11111111);
	expect("dr1", READ("dr1"), 0x22222222);
	expect("dr2", READ("dr2"), 0x33333333);
	expect("dr3", READ("dr3"), 0x44444444);
	WRITE("dr6", 0);
	expect("dr6", READ("dr6"), 0xffff0ff0);
	WRITE("dr7", 0);
	expect("dr7", READ("dr7"), 0x400);
	/* DR4 and DR5 are other names of DR6 and DR7, until CR4.DE takes them away. */
	expect("dr4", PROBE("mov %%dr4, %%eax", NOTHING), NONE);
	WRITE("dr5", 0x10);
	expect("dr5", READ("dr7"), 0x410);
	WRITE("cr4", 8);
	expect("dr4 with DE", PROBE("mov %%dr4, %%eax", NOTHING), UD);
	expect("dr5 with DE", PROBE("mov %%eax, %%dr5", NOTHING), UD);
	WRITE("cr4", 0);
}

static void guest(void) {
	cr0();
	other_control();
	paging();
	debug();
}
