/* What an exit of a guest in long mode costs (see bench.h). As under Linux, the MSRs of SYSCALL are the guest's own, which has
 * the kernel switch them, code is in a large page, and the address without RAM behind a page table. */
#include "guest.h"
#define WIDTH "_long"
#define POINTER "rdi"
#include "bench.h"

enum { EFER = 0xc0000080, STAR, LSTAR, FMASK = 0xc0000084, SCE = 1 };

static u64 table[512] __attribute__((aligned(4096)));

static void guest(void) {
	/* The address was not used yet, so the TLB holds nothing for it. */
	table[0] = (NOWHERE & ~0xffful) | 3;
	DIRECTORY[NOWHERE >> 21] = (u64)table | 3;
	wrmsr(EFER, rdmsr(EFER) | SCE);
	for (u32 i = 0; i < 3; i++) expect("WRMSR", wrmsr((u32[]){STAR, LSTAR, FMASK}[i], 0x1111), NONE);
	wait_for_console();
	exits();
	print_rows();
}
