/* An NE2000 (National Semiconductor DP8390D, section 10) that sends frames of 60 bytes, with its interrupt at the secondary PIC.
 * Whoever includes this has the handler of the interrupt, `serve`. */

/* Configuration space: base address, interrupt line. */
enum { FUNCTION = 0x80000800, BAR0 = 0x10, INTERRUPT = 0x3c };
/* Registers of page 0, and the bits used here. */
enum { COMMAND = 0, TRANSMIT_PAGE = 4, TRANSMIT_COUNT = 5, STATUS = 7, REMOTE_COUNT = 10, RECEIVE = 12, CONFIGURATION = 14,
       MASK = 15 };
enum { STOP = 0x21, START = 0x22, SEND = 0x26, SENT = 1 << 1 };

static u16 card;
extern u8 interrupted[];
asm("interrupted:\n"
    "	pusha\n"
    "	call serve\n"
    "	popa\n"
    "	iret\n");

/* The timer, and input `line` of the secondary PIC. */
static void start_interrupts(u32 line) {
	static const u8 pic[] = {0x28, 0x02, 0x01};
	start_timer();
	out8(0xa0, 0x11);
	for (u32 i = 0; i < sizeof pic; i++) out8(0xa1, pic[i]);
	out8(0xa1, ~(1 << (line - 8)));
	out8(0x21, 0xfa);
	idt[0x20 + line] = gate(interrupted, 0x8e);
	load_idt(idt, sizeof idt - 1);
}

static void start_card(void) {
	out8(card + COMMAND, STOP);
	out8(card + CONFIGURATION, 0x48);
	out8(card + REMOTE_COUNT, 0);
	out8(card + REMOTE_COUNT + 1, 0);
	out8(card + RECEIVE, 0x20);
	out8(card + TRANSMIT_PAGE, 0x40);
	out8(card + TRANSMIT_COUNT, 60);
	out8(card + TRANSMIT_COUNT + 1, 0);
	out8(card + STATUS, 0xff);
	out8(card + MASK, SENT);
	out8(card + COMMAND, START);
}
