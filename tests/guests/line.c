/* The driver of an NE2000 (National Semiconductor DP8390D, section 10) that shares its interrupt line with another guest's
 * card. It sends frames, one for an interrupt: slowly, until the other guest is at work; then as fast as it can; and then on
 * and on, with interrupts that it neither serves nor ends. */
#include "guest.h"
#include "ne2000.h"

/* Interrupts of the other guest's card that say that it is at work. */
enum { AT_WORK = 20 };
/* Frames that are sent as fast as can be. */
enum { FRAMES = 500 };
/* Ticks, of 10 ms, without an interrupt before the card is asked. */
enum { PATIENCE = 5 };

static volatile u32 interrupts, sent, foreign, lost, neglected;

void serve(void) {
	if (neglected) return;
	interrupts++;
	if (in8(card + STATUS) & SENT) {
		out8(card + STATUS, SENT);
		sent++;
	} else {
		foreign++;
	}
	out8(0xa0, 0x20);
	out8(0x20, 0x20);
}

/* Sends a frame and waits for its interrupt. One that does not come is looked for: the emulated line is low as soon as
 * either card says so. */
static void send(void) {
	u32 before = sent, since = ticks;
	out8(card + COMMAND, SEND);
	asm volatile("cli");
	while (sent == before) {
		asm volatile("sti; hlt; cli" : : : "memory");
		if (sent == before && ticks - since > PATIENCE && in8(card + STATUS) & SENT) {
			out8(card + STATUS, SENT);
			sent++;
			lost++;
		}
	}
	asm volatile("sti");
}

static void wait_for_tick(void) {
	for (u32 now = ticks; ticks == now;) asm volatile("sti; hlt" : : : "memory");
}

static void guest(void) {
	out32(0xcf8, FUNCTION | BAR0);
	card = in32(0xcfc) & ~3;
	out32(0xcf8, FUNCTION | INTERRUPT);
	u32 line = in8(0xcfc);
	FACT("line", line);
	start_interrupts(line);
	start_card();
	while (foreign < AT_WORK) {
		send();
		wait_for_tick();
	}
	print("guest: has a neighbour\n");
	u32 frames = sent, since = ticks;
	for (u32 i = 0; i < FRAMES; i++) send();
	FACT("sent", sent, interrupts, foreign, lost);
	FACT("load", sent - frames, ticks - since);
	neglected = 1;
	print("guest: neglects its card\n");
	for (;;) {
		out8(card + COMMAND, SEND);
		wait_for_tick();
	}
}
