/* A kernel with an entry for PVH: it starts there and not at `_start`, in protected mode without paging, and finds what
 * `hvm_start_info` has to say (Xen's docs/misc/pvh.pandoc, xen/include/public/arch-x86/hvm/start_info.h). */
#include "guest.h"

asm(".pushsection .note.Xen, \"a\", @note\n"
    "	.long 4, 4, 18\n"
    "	.asciz \"Xen\"\n"
    "	.long pvh_start\n"
    ".popsection\n"
    "pvh_start:\n"
    "	mov %ebx, start_info\n"
    "	mov %cr0, %eax\n"
    "	mov %eax, first_cr0\n"
    "	mov %cr4, %eax\n"
    "	mov %eax, first_cr4\n"
    "	jmp _start\n");
volatile u32 start_info, first_cr0, first_cr4;

struct range { u64 base, size; u32 type, reserved; };

static u32 is_text(const char *a, const char *b) {
	while (*a && *a == *b) a++, b++;
	return *a == *b;
}

static void guest(void) {
	expect("it has started by PVH", start_info != 0, 1);
	if (!start_info) return;
	expect("CR0: PG, PE", first_cr0 & 0x80000001, 1);
	expect("CR4", first_cr4, 0);
	const u32 *info = (const u32 *)start_info;
	expect("magic", info[0], 0x336ec578);
	expect("version", info[1], 1);
	expect("modules", info[3], 0);
	expect("the command line", is_text((const char *)info[6], "one two=three"), 1);
	expect("RSD PTR", *(u32 *)info[8], 0x20445352);
	const struct range *map = (const struct range *)info[10];
	expect("ranges of memory", info[12], 4);
	expect("the first is RAM", map[0].type == 1 && map[0].base == 0 && map[0].size == 0x9fc00, 1);
	expect("the last is RAM", map[3].type == 1 && map[3].base == 0x100000 && map[3].size == 0x300000, 1);
	expect("RAM is there", (KEPT = 0x5a5a5a5a, KEPT), 0x5a5a5a5a);
}
