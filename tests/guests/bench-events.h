/* What the guests that measure share beside single exits: how long an interrupt takes, by the 8254 and from the UART, and a request by
 * a virtqueue. Both interrupts are of the first 8259, at the vectors from 0x20 on, and the UART's output 2 is on. */
#pragma once
#include "bench.h"

/* When the last interrupt was noticed, or ended. */
volatile u32 moment;
extern u8 woken[], ended[];
asm("woken:\n"
    "	push " AX "\n"
    "	push " DX "\n"
    "	rdtsc\n"
    "	mov %eax, moment\n"
    "	mov $0x20, %al\n"
    "	out %al, $0x20\n"
    "	pop " DX "\n"
    "	pop " AX "\n"
    "	" IRET "\n"
    "ended:\n"
    "	push " AX "\n"
    "	push " DX "\n"
    "	mov $0x20, %al\n"
    "	out %al, $0x20\n"
    "	rdtsc\n"
    "	mov %eax, moment\n"
    "	pop " DX "\n"
    "	pop " AX "\n"
    "	" IRET "\n");

/* The 8254's count for a millisecond, and its rate. */
enum { COUNT = 1193, PIT_HZ = 1193182 };

/* From the moment for which the timer was set, a millisecond ahead, to the first instruction that looks at the clock. `length` is
 * that millisecond, in ticks of the TSC. */
static void halt_wake(u32 length) {
	for (u32 round = 0; round < ROUNDS; round++) {
		out8(0x43, 0x30);
		out8(0x40, COUNT & 0xff);
		u32 start = tsc();
		out8(0x40, COUNT >> 8);
		asm volatile("sti; hlt; cli" : : : "memory");
		samples[round] = moment - start - length;
	}
	end_row("halt_wake" WIDTH);
}

/* From the OUT that has the UART interrupt (its transmitter is empty) until after the end of that interrupt. */
static void inject_eoi(void) {
	for (u32 round = 0; round < ROUNDS; round++) {
		u32 start;
		asm volatile("sti; mov $0x3f9, %%edx; rdtsc; mov %%eax, %0; mov $0x3f9, %%edx; mov $2, %%al; out %%al, %%dx; nop; cli"
			: "=&b"(start) : : "eax", "edx", "memory");
		samples[round] = moment - start;
		out8(0x3f9, 0);
		in8(0x3fa);
	}
	end_row("inject_eoi" WIDTH);
}

/* A request to the entropy device, for a byte, by its legacy interface: from the notification until it is used. The ring has
 * 8 descriptors, and the driver wants no interrupt. Registers are those of virtio 1.2, section 4.1.4.10. */
static void virtqueue(void) {
	enum { DEVICE = 17, PORTS = 0xc000, RING = 0x200000, AVAILABLE = RING + 16 * 8, USED = RING + 0x1000, BUFFER = 0x300000 };
	volatile u32 *descriptor = (volatile u32 *)RING;
	volatile u16 *available = (volatile u16 *)AVAILABLE, *used = (volatile u16 *)USED;
	out32(0xcf8, 0x80000010 | DEVICE << 11);
	out32(0xcfc, PORTS);
	out32(0xcf8, 0x80000004 | DEVICE << 11);
	out16(0xcfc, 5);
	out8(PORTS + 18, 3);
	out16(PORTS + 14, 0);
	out32(PORTS + 8, RING / 4096);
	out8(PORTS + 18, 7);
	descriptor[0] = BUFFER, descriptor[2] = 1, descriptor[3] = 2;
	available[0] = 1;
	mark("virtqueue" WIDTH);
	for (u16 round = 0; round < ROUNDS; round++) {
		u32 start = tsc();
		available[1] = round + 1;
		out16(PORTS + 16, 0);
		samples[round] = used[1] == (u16)(round + 1) ? tsc() - start : ~0u;
	}
	end_row("virtqueue" WIDTH);
}
